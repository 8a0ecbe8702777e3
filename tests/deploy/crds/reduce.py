"""Reduce a CustomResourceDefinition (YAML on stdin) to the schema of one kind and version (JSON on stdout).

    python reduce.py KIND VERSION < crd.yaml > KIND.json

What only explains is left out, and so is `status`. Pod templates are open: they are checked as pods, by the schema
of Kubernetes.
"""

import json
import sys
from typing import Any

import yaml

EXPLAINING = {"description", "example", "externalDocs", "x-kubernetes-validations"}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def reduced(value: Any) -> Any:
    if isinstance(value, list):
        return [reduced(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: reduced(inner) for key, inner in value.items() if key not in EXPLAINING and key != "properties"}
    if "properties" in value:
        kept["properties"] = {
            name: OPEN if _is_pod_template(name, inner) else reduced(inner)
            for name, inner in value["properties"].items()
        }
    return kept


def _is_pod_template(name: str, schema: dict[str, Any]) -> bool:
    return name == "template" and "containers" in str(schema)


def main(kind: str, version: str) -> None:
    for crd in yaml.safe_load_all(sys.stdin):
        if crd and crd.get("kind") == "CustomResourceDefinition" and crd["spec"]["names"]["kind"] == kind:
            (found,) = [one for one in crd["spec"]["versions"] if one["name"] == version]
            schema = reduced(found["schema"]["openAPIV3Schema"])
            schema["properties"].pop("status", None)
            api_version = f"{crd['spec']['group']}/{version}"
            json.dump({"apiVersion": api_version, "schema": schema}, sys.stdout, separators=(",", ":"))
            print()
            return
    sys.exit(f"no {kind} {version} on stdin")


if __name__ == "__main__":
    main(*sys.argv[1:])
