"""Playbooks whose forms (``ui_schema``) are recorded: kinds of values, directives, and where directives are found."""

from __future__ import annotations

PLAYBOOK = """apiVersion: noetl.io/v2
kind: Playbook
metadata:
  name: {name}
  path: golden/forms/{{run}}/{name}
"""

FORMS = {
    "kinds": """  description: |
    Some **help**
  exposed_in_ui: true
workload:
  i: 5
  big: 18446744073709551615
  hex: 0x1f
  f: 1.50
  nan: .nan
  inf: -.inf
  b: true
  yes_text: yes
  n: null
  tilde: ~
  empty:
  s: text
  quoted: "5"
  folded: >
    a
    b
  list: [1, 2.0, {a: b}]
  nested:
    x: 1
    deeper: {y: [1], z: null}
  empty_map: {}
  date: 2026-01-01
  octal: 010
  tagged: !foo bar
  tagged_int: !foo 5
  tagged_float: !foo 1.5
  tagged_null: !foo ~
  tagged_bool: !foo true
  tagged_list: !foo [1]
  tagged_map: !foo {a: 1}
  odd_keys: {1: a, true: b, 1.5: c}
  no_json: {~: 1}
  5: five
  true: yes
  1.5: float
  ~: nothing
  1e16: large
  [1, 2]: list key
  ? {a: 1}
  : map key
""",
    "directives": """workload:
  lvl: info # ui:enum=[a, 'b', "c",, d ]
  d9: true # ui:enum=[true,false]
  d: a # ui:description=Some help # ui:secret
  e: 1 # ui:description=a#b
  pw4: x # ui: secret
  d12: a# ui:secret
  url: http://x/#ui:secret
  in_quotes: "a # ui:secret"
  one: a # ui:enum
  two: a # ui:enum=[a
  three: a # ui:enum=[]
  four: {a: 1} # ui:enum=[a, b]
  cred: c # ui:credential='pg-*'
  cred_empty: c # ui:credential=
  cred_twice: c # ui:credential=a # ui:credential=b
  description_empty: c # ui:description=''
  upper: c # ui:Secret
  longer: c # ui:secretx
  unknown: c # ui:other=5
  spaced: c #   ui:secret   =   ignored
  secret_value: c # ui:secret=false
  "quoted_key": c # ui:secret
  9digit: c # ui:secret
  dash-ed_key: c # ui:secret
  über: c # ui:secret
  key : c # ui:secret
  # c1: x # ui:secret
  nested: # ui:description=outer
    inner: 1 # ui:secret
  quote_one: c # ui:enum='
  quote_mixed: c # ui:enum='a"
  tail: c # ui:enum=[a,b] x
  empties: c # ui:enum=['',"", ,' ',a]
  description_last_empty: c # ui:description=a # ui:description=
  two_directives: c # ui:other # ui:credential="x y" ui:description=inside
  negative: -0
""",
    "comment_first": """workload:
    # deeper
  a: 1 # ui:secret
""",
    "comment_same": """workload:
  # same indent
  a: 1 # ui:secret
# column 0
  b: 2 # ui:secret
""",
    "nested_workload": """workload:
  a: 1
  other: 2
step:
  workload:
    a: x # ui:secret
    other: y # ui:enum=[q]
""",
    "replaced": """workload:
  a: 1 # ui:secret
other:
  workload:
    a: x # ui:description=later
    a2: x
""",
    "nothing_known": """workload:
  a: 1 # ui:secret
other:
  workload:
    a: x # ui:unknown
""",
    "bare_later": """workload:
  a: 1 # ui:secret
other:
  workload:
    a: x
""",
    "deep_blocks": """  workload:
    x: 1
  \tworkload:
workload:

  a: 1 # ui:secret

   b: 2
  workload: # ui:secret
    c: 1 # ui:secret
""",
    "one_space": """workload:
 a: 1 # ui:secret
""",
    "flow": """workload: {a: 1, b: two} # ui:secret
""",
    "list_workload": """workload: [1]
""",
    "tagged_workload": """workload: !x {a: 1}
""",
    "no_workload": """  exposed_in_ui: yes
  description: 5
""",
    "quoted_exposed": """  exposed_in_ui: "true"
  description: [a]
workload:
""",
}
