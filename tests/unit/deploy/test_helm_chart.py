"""The Helm chart: rendered by Helm itself, against the schemas of Kubernetes and the deployment specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

from noetl.config import load_settings
from noetl.config.load import GROUPS
from noetl.config.variable import variables_of
from noetl.http.tls import PROBES

CHART = Path(__file__).parents[3] / "deploy/helm/noetl-server"
OLDER_VALUES = Path(__file__).parent / "values_of_an_older_chart.yaml"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
EVERYTHING: dict[str, Any] = {
    "server": {"replicas": 3, "podLabels": {"team": "x"}, "nodeSelector": {"disk": "ssd"}, "priorityClassName": "high"},
    "sharding": {"count": 3},
    "secrets": {"noetlPassword": "p", "natsPassword": "n", "encryptionKey": KEY, "internalApiToken": "t"},
    "config": {"server": {"NATS_URL": "nats://noetl:word@nats:4222", "NOETL_WORKERS": 2}},
    "kubernetesSecrets": [{"names": ["own"]}, {"namespace": "team-a", "names": ["warehouse", "mail"]}],
    "networkPolicy": {"enabled": True, "extraEgress": [{"to": [{"podSelector": {}}]}]},
    "externalService": {"enabled": True, "type": "NodePort", "nodePort": 30082},
    "ingress": {"enabled": True, "host": "noetl.example.com", "tls": {"secretName": "noetl-tls"}},
    "tls": {"enabled": True, "mtls": {"enabled": False}},
    "monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
    "extraEnv": [{"name": "NOETL_LANES", "value": "2"}],
}
OUTSIDE_KUBERNETES = {"ServiceMonitor", "PrometheusRule", "Certificate", "ManagedCertificate"}
"""Kinds of operators, for which no schema is at hand."""


def render(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    with Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values or {}, name="noetl", namespace="noetl")
    return [
        document
        for path, text in files.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def one(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == kind and name in each["metadata"]["name"])
    return found


def container(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return one(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]


def environment(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Variable -> value, or where it comes from."""
    given = dict(one(documents, "ConfigMap", "-config")["data"])
    for entry in container(documents)["env"]:
        given[entry["name"]] = entry.get("value") or entry["valueFrom"]
    return given


def older_values() -> dict[str, Any]:
    return yaml.safe_load(OLDER_VALUES.read_text())


VALUES = pytest.mark.parametrize(
    "values", [{}, EVERYTHING, older_values()], ids=["defaults", "everything", "values of an older chart"]
)


@VALUES
def test_helm_finds_nothing_wrong(values: dict[str, Any]) -> None:
    report = lint(CHART, values, strict=True)
    assert not report["errors"]
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@VALUES
@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_objects_are_what_kubernetes_accepts(values: dict[str, Any], version: str) -> None:
    documents = render(values)
    names = [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))
    for document in documents:
        if document["kind"] not in OUTSIDE_KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


def test_ordinal_is_machine_id_and_shard_index() -> None:
    ordinal = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    given = environment(render())
    assert given["NOETL_SERVER_MACHINE_ID"] == ordinal
    assert "NOETL_SHARD_INDEX" not in given
    sharded = environment(render({"sharding": {"count": 4}, "server": {"replicas": 4}}))
    assert (sharded["NOETL_SHARD_INDEX"], sharded["NOETL_SHARD_COUNT"]) == (ordinal, "4")
    later = one(render({"server": {"firstMachineId": 20}}), "StatefulSet")["spec"]
    assert later["ordinals"] == {"start": 20}


def test_probes_are_those_of_the_deployment_specification() -> None:
    probes = container(render())
    assert {
        name: (
            probe["httpGet"]["path"],
            probe.get("initialDelaySeconds"),
            probe["periodSeconds"],
            probe["failureThreshold"],
        )
        for name in ("liveness", "readiness", "startup")
        for probe in [probes[f"{name}Probe"]]
    } == {
        "liveness": ("/healthz", 10, 10, 3),
        "readiness": ("/readyz", 5, 5, 3),
        "startup": ("/healthz", None, 5, 30),
    }
    assert probes["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
        "limits": {"cpu": "1000m", "memory": "512Mi"},
    }
    assert [port["containerPort"] for port in probes["ports"]] == [8082]


@pytest.mark.parametrize("mtls", [True, False])
def test_probes_ask_over_https_also_where_clients_need_a_certificate(mtls: bool) -> None:
    probes = container(render({"tls": {"enabled": True, "mtls": {"enabled": mtls}}}))
    asked = {probes[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness", "startup")}
    assert {path.encode() for path in asked} <= PROBES
    assert probes["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTPS"}


def test_container_is_not_root_and_cannot_write_its_file_system() -> None:
    documents = render()
    pod = one(documents, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20_000_000, "20000000"),
        (1_048_576, "1048576"),
        (5, "5"),
        (0.25, "0.25"),
        (True, "true"),
        (0, "0"),
        ("1e7", "1e7"),
    ],
)
def test_numbers_reach_the_server_as_they_are_written(value: object, text: str) -> None:
    given = environment(render({"config": {"server": {"NOETL_SOMETHING": value}}}))
    assert given["NOETL_SOMETHING"] == text


def test_secrets_reach_the_server_only_by_reference() -> None:
    secret = [
        name for group in GROUPS for _, variable in variables_of(group) if variable.secret for name in variable.names
    ]
    values = {"config": {"server": dict.fromkeys(secret, "user:word@host")}}
    documents = render(values)
    given = environment(documents)
    assert not set(one(documents, "ConfigMap", "-config")["data"]) & set(secret)
    assert {name: given[name] for name in secret} == {
        name: {"secretKeyRef": {"name": "noetl-secret", "key": name}} for name in secret
    }
    assert one(documents, "Secret")["stringData"].keys() == set(secret)


def test_secrets_that_exist_are_named_not_made() -> None:
    documents = render({"secrets": {"create": False}})
    assert not [each for each in documents if each["kind"] == "Secret"]
    given = environment(documents)
    assert given["NOETL_ENCRYPTION_KEY"]["secretKeyRef"] == {
        "name": "noetl-secret",
        "key": "NOETL_ENCRYPTION_KEY",
        "optional": False,
    }
    assert given["NOETL_INTERNAL_API_TOKEN"]["secretKeyRef"] == {
        "name": "noetl-internal-api-token",
        "key": "token",
        "optional": True,
    }


def test_settings_of_the_pod_are_understood_by_the_server() -> None:
    for values in ({}, EVERYTHING, older_values()):
        documents = render(values)
        variables = environment(documents)
        stored = one(documents, "Secret")["stringData"]
        for name, value in variables.items():
            if isinstance(value, dict):
                variables[name] = "2" if "fieldRef" in value else stored.get(name, "")
        variables = {name: value for name, value in variables.items() if not name.startswith("NOETL_TLS")}
        settings = load_settings(variables)
        assert settings.identity.machine_id == 2
        assert settings.nats.configured
        assert settings.http.public_server_url.endswith("://noetl.noetl.svc.cluster.local:8082")


def test_values_of_an_older_chart_keep_their_meaning() -> None:
    documents = render(older_values())
    given = environment(documents)
    assert (given["POSTGRES_USER"], given["POSTGRES_DATABASE"]) == ("noetl_user", "noetl_database")
    assert one(documents, "Secret")["stringData"] == {
        "AWS_SECRET_ACCESS_KEY": "object-store-word",
        "NATS_PASSWORD": "nats-word",
        "POSTGRES_PASSWORD": "noetl-word",
    }
    assert given["NATS_STREAM"] == "NOETL_COMMANDS"
    assert one(documents, "StatefulSet")["spec"]["replicas"] == 2
    assert container(documents)["image"] == "registry.example/noetl:latest"
    assert {each["metadata"]["name"] for each in documents if each["kind"] == "Service"} == {
        "noetl",
        "noetl-ext",
        "noetl-server-headless",
    }
    with Chart.load(CHART) as chart:
        notes = chart.render(older_values(), name="noetl", namespace="noetl")["noetl-server/templates/NOTES.txt"]
    assert (
        "Without effect here, since this chart is for the server alone: ehdb, objectStore, persistence, worker."
        in notes
    )


def test_kubernetes_secrets_are_readable_by_name_only() -> None:
    documents = render(EVERYTHING)
    roles = {each["metadata"]["namespace"]: each["rules"] for each in documents if each["kind"] == "Role"}
    assert {namespace: rules[0]["resourceNames"] for namespace, rules in roles.items()} == {
        "noetl": ["own"],
        "team-a": ["warehouse", "mail"],
    }
    assert all(rules[0]["verbs"] == ["get", "list"] for rules in roles.values())
    bound = [each for each in documents if each["kind"] == "RoleBinding"]
    assert {each["subjects"][0]["namespace"] for each in bound} == {"noetl"}
    assert one(documents, "StatefulSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_several_lists_of_kubernetes_secrets_may_be_for_one_namespace() -> None:
    documents = render({"kubernetesSecrets": [{"names": ["a"]}, {"namespace": "noetl", "names": ["b"]}]})
    names = [each["metadata"]["name"] for each in documents if each["kind"] == "Role"]
    assert names == ["noetl-server-secrets-reader-0", "noetl-server-secrets-reader-1"]
    assert [each["roleRef"]["name"] for each in documents if each["kind"] == "RoleBinding"] == names


def test_pods_show_no_digest_of_a_secret() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = one(render(values), "StatefulSet")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/environment"]

    assert checksum({"secrets": {"noetlPassword": "a"}}) == checksum({"secrets": {"noetlPassword": "b"}})
    assert checksum({}) != checksum({"config": {"server": {"NOETL_LANES": "2"}}})


def test_every_secret_provider_is_behind_an_open_port() -> None:
    rules = one(render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]["egress"]
    ports = {each["port"] for rule in rules for each in rule["ports"]}
    assert ports == {53, 5432, 4222, 443, 6443, 80, 988, 8200}


def test_large_results_have_room_on_disk() -> None:
    def room(values: dict[str, Any]) -> tuple[str, str]:
        pod = one(render(values), "StatefulSet")["spec"]["template"]["spec"]
        request = pod["containers"][0]["resources"]["requests"]["ephemeral-storage"]
        return pod["volumes"][0]["emptyDir"]["sizeLimit"], request

    assert room({}) == ("1Gi", "1Gi")
    assert room({"server": {"tmpSize": "2Gi"}}) == ("2Gi", "2Gi")
    asked = {"requests": {"ephemeral-storage": "5Gi"}}
    assert room({"server": {"resources": asked}}) == ("1Gi", "5Gi")


def test_service_monitor_scrapes_each_replica_once() -> None:
    documents = render(EVERYTHING)
    wanted = one(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    services = [each["metadata"] for each in documents if each["kind"] == "Service"]
    assert [each["name"] for each in services if wanted <= each["labels"].items()] == ["noetl-server-headless"]
    assert one(documents, "PrometheusRule")["spec"]["groups"]
    assert "noetl-server.json" in one(documents, "ConfigMap", "dashboard")["data"]


def test_pods_are_protected_from_eviction_when_there_are_several() -> None:
    assert one(render(), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    alone = render({"server": {"replicas": 1}})
    assert not [each for each in alone if each["kind"] == "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharding": {"count": 3}}, "sharding.count is 3 and server.replicas is 2"),
        ({"server": {"firstMachineId": 1023}}, "machine ids end at 1023"),
        ({"sharding": {"count": 2}, "server": {"firstMachineId": 5}}, "the ordinal is also the shard index"),
        ({"config": {"server": {"NOETL_SERVER_MACHINE_ID": "3"}}}, "NOETL_SERVER_MACHINE_ID is set by the chart"),
        ({"secrets": {"create": False, "encryptionKey": KEY}}, "secrets.refs.NOETL_ENCRYPTION_KEY"),
        ({"secrets": {"encryptionKey": "short"}}, "/secrets/encryptionKey"),
        ({"server": {"replicas": -1}}, "/server/replicas"),
        ({"server": {"replica": 2}}, "replica"),
        ({"service": {"port": 80000}}, "/service/port"),
        ({"kubernetesSecrets": [{"names": []}]}, "/kubernetesSecrets/0/names"),
        ({"tls": {"enabled": True, "certManager": {"bootstrap": {"enabled": True}}}}, "tls.certManager.issuerRef"),
        (
            {
                "monitoring": {"serviceMonitor": {"enabled": True}},
                "config": {"server": {"NOETL_DISABLE_METRICS": "true"}},
            },
            "NOETL_DISABLE_METRICS",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render(values)
    assert message in str(refusal.value)
