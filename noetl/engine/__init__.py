"""The workflow engine: pure functions from playbooks and events to decisions."""
