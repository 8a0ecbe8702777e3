"""Who may reach the pods, and whom they may reach: by default nobody else; every opening has a name."""

from typing import Any

import pytest

from .cluster import Object, helm, one, overlay, with_components

NODE_LOCAL_DNS = "169.254.20.10/32"


def policy(name: str) -> Object:
    suffix = name.removeprefix("networkpolicy")
    return one(with_components(name), "NetworkPolicy", "opera-reward" + suffix)["spec"]


def ports(rule: Object) -> set[tuple[int, str]]:
    return {(port["port"], port["protocol"]) for port in rule["ports"]}


def namespaces(peer: Object) -> list[str]:
    selector = peer["namespaceSelector"]
    if "matchExpressions" in selector:
        (expression,) = selector["matchExpressions"]
        assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
        return expression["values"]
    return [selector["matchLabels"]["kubernetes.io/metadata.name"]]


def test_by_default_the_network_is_closed():
    spec = policy("networkpolicy")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (incoming,) = spec["ingress"]
    assert ports(incoming) == {(8000, "TCP")}
    trainers, platform = incoming["from"]
    assert trainers == {"namespaceSelector": {}, "podSelector": {"matchLabels": {"opera-reward/client": "true"}}}
    assert {"monitoring", "envoy-gateway-system", "istio-system", "ingress-nginx"} <= set(namespaces(platform))
    assert len(spec["egress"]) == 2, "DNS and the hub"


def test_names_are_found_by_namespace_and_by_the_nodes_cache():
    """Not by the pods' labels: those differ between kube-dns, CoreDNS charts and OpenShift."""
    dns, hub = policy("networkpolicy")["egress"]
    cluster, node = dns["to"]
    assert "kube-system" in namespaces(cluster)
    assert "podSelector" not in cluster
    assert node["ipBlock"]["cidr"] == NODE_LOCAL_DNS
    assert {(53, "UDP"), (53, "TCP")} <= ports(dns)
    assert ports(hub) == {(443, "TCP")}


def test_traces_go_to_the_collector():
    spec = policy("networkpolicy-otlp")
    (out,) = spec["egress"]
    assert ports(out) == {(4317, "TCP"), (4318, "TCP")}
    assert [namespaces(peer) for peer in out["to"]] == [["observability"]]
    assert spec["policyTypes"] == ["Egress"]


def test_the_mesh_has_its_tunnels_probes_and_certificates():
    spec = policy("networkpolicy-mesh")
    incoming = {port for rule in spec["ingress"] for port, _ in ports(rule)}
    assert incoming == {15008, 15020, 15021, 8000}
    (probes,) = [rule for rule in spec["ingress"] if (8000, "TCP") in ports(rule)]
    assert probes["from"] == [{"ipBlock": {"cidr": "169.254.7.127/32"}}], "not the whole world"
    assert {port for rule in spec["egress"] for port, _ in ports(rule)} == {15008, 15012}


def test_vllm_http_reaches_its_server():
    (out,) = policy("networkpolicy-vllm-http")["egress"]
    assert ports(out) == {(8000, "TCP")}
    assert [peer["podSelector"]["matchLabels"] for peer in out["to"]] == [{"opera-reward/vllm": "true"}]
    chart = helm(values={"networkPolicy": {"enabled": True, "vllmHttp": {"enabled": True, "port": 8080}}})
    (out,) = one(chart, "NetworkPolicy", "opera-reward-vllm-http")["spec"]["egress"]
    assert ports(out) == {(8080, "TCP")}


@pytest.mark.parametrize("opening", ["otlp", "mesh", "vllmHttp"])
def test_an_opening_alone_closes_nothing(opening: str):
    """A policy that selects the pods would shut out everything that it does not name."""
    values: dict[str, Any] = {"networkPolicy": {"enabled": False, opening: {"enabled": True}}}
    assert not [item for item in helm(values=values) if item["kind"] == "NetworkPolicy"]


def test_every_policy_allows_what_it_restricts():
    """An empty rule would allow all of the internet; a listed type without a rule would allow nothing."""
    for item in overlay("gpu"):
        if item["kind"] == "NetworkPolicy":
            for rule in (*item["spec"]["ingress"], *item["spec"]["egress"]):
                assert rule["ports"]
