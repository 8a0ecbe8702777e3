"""Requests find the right pod: members of a group meet, everything else spreads, and there are priorities."""

import math

import pytest
import yaml

from opera_client._routing import GROUP_HEADER
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from .cluster import ROOT, Object, container_of, helm, one, with_components
from .exposed import exposed

MEMBER_PATHS = {"/reward/member", "/openrlhf/reward"}
KINDS = ["envoy-gateway", "istio"]


@pytest.fixture(scope="module")
def served() -> set[str]:
    return set(create_app(Settings(engine="dummy")).openapi()["paths"])


def rule_of(route: Object) -> Object:
    (rule,) = route["spec"]["rules"]
    return rule


def test_ingress_nginx_hashes_our_clients_header(served: set[str]):
    objects = with_components("ingress-nginx")
    hashed, whole = (one(objects, "Ingress", name) for name in ("opera-reward-members", "opera-reward"))
    variable = "$http_" + GROUP_HEADER.lower().replace("-", "_")
    assert hashed["metadata"]["annotations"]["nginx.ingress.kubernetes.io/upstream-hash-by"] == variable
    (rule,), (plain,) = hashed["spec"]["rules"], whole["spec"]["rules"]
    assert {path["path"] for path in rule["http"]["paths"]} == MEMBER_PATHS <= served
    services = [path["backend"]["service"]["name"] for path in (*rule["http"]["paths"], *plain["http"]["paths"])]
    assert services == ["opera-reward-members"] * 2 + ["opera-reward"], "ingress-nginx hashes a whole Service"
    assert rule["host"] == plain["host"]
    limit = hashed["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert limit == f"{math.ceil(Settings().max_body_mb)}m"


@pytest.mark.parametrize("kind", KINDS)
def test_a_gateway_leads_members_and_whole_groups_apart(kind: str, served: set[str]):
    objects = with_components(kind)
    whole, members = (one(objects, "HTTPRoute", name) for name in ("opera-reward", "opera-reward-members"))
    matches = [match["path"] for match in rule_of(members)["matches"]]
    assert {match["type"] for match in matches} == {"Exact"}
    assert {match["value"] for match in matches} == MEMBER_PATHS <= served
    for route, service in ((whole, "opera-reward"), (members, "opera-reward-members")):
        (backend,) = rule_of(route)["backendRefs"]
        found = one(objects, "Service", service)
        assert (backend["name"], backend["port"]) == (service, found["spec"]["ports"][0]["port"])
        assert route["spec"]["hostnames"] == whole["spec"]["hostnames"]


def test_envoy_gateway_hashes_our_clients_header():
    policy = one(with_components("envoy-gateway"), "BackendTrafficPolicy")["spec"]
    (target,) = policy["targetRefs"]
    assert (target["kind"], target["name"]) == ("HTTPRoute", "opera-reward-members")
    headers = [header["name"] for header in policy["loadBalancer"]["consistentHash"]["headers"]]
    assert headers == [GROUP_HEADER, ":authority"], "the second is what is hashed where the first is missing"


def test_istio_hashes_our_clients_header():
    objects = with_components("istio")
    rule = one(objects, "DestinationRule")["spec"]
    assert rule["host"] == one(objects, "Service", "opera-reward-members")["metadata"]["name"]
    assert rule["trafficPolicy"]["loadBalancer"]["consistentHash"] == {"httpHeaderName": GROUP_HEADER}


@pytest.mark.parametrize("kind", KINDS)
def test_values_name_the_gateway(kind: str):
    routing = {"kind": kind, "host": "reward.example", "gateway": {"name": "public", "namespace": "edge"}}
    for item in helm(values={"routing": routing}, name="judge"):
        if item["kind"] == "HTTPRoute":
            assert item["spec"]["parentRefs"] == [{"name": "public", "namespace": "edge"}]
            assert item["spec"]["hostnames"] == ["reward.example"]
            assert rule_of(item)["backendRefs"][0]["name"] in ("judge", "judge-members")


def test_the_pool_has_the_services_pods_and_no_members(served: set[str]):
    objects = with_components("inference-pool")
    pool = one(objects, "InferencePool")
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (port,), (listening,) = pool["spec"]["targetPorts"], container_of(objects)["ports"]
    assert port["number"] == listening["containerPort"]
    rule = rule_of(one(objects, "HTTPRoute"))
    (backend,) = rule["backendRefs"]
    assert (backend["kind"], backend["name"]) == ("InferencePool", pool["metadata"]["name"])
    paths = {match["path"]["value"] for match in rule["matches"]}
    assert paths <= served
    assert not paths & MEMBER_PATHS, "the picker would scatter a group"


def test_priorities_belong_to_the_pool():
    objects = with_components("inference-pool")
    objectives = [item for item in objects if item["kind"] == "InferenceObjective"]
    assert {item["spec"]["poolRef"]["name"] for item in objectives} == {
        one(objects, "InferencePool")["metadata"]["name"]
    }
    priority = {item["metadata"]["name"]: item["spec"]["priority"] for item in objectives}
    assert priority["opera-reward-evaluation"] > 0 > priority["opera-reward-offline"]


def test_the_picker_reads_metrics_that_are_shown():
    """Its configuration is in the guide; queue and running requests must be gauges of ours."""
    (extractor,) = [
        plugin
        for plugin in yaml.safe_load((ROOT / "deploy" / "endpoint-picker.yaml").read_text())["plugins"]
        if plugin["type"] == "core-metrics-extractor"
    ]
    (engine,) = extractor["parameters"]["engineConfigs"]
    labels = one(with_components("inference-pool"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["llm-d.ai/engine-type"] == engine["name"]
    named = {engine[key] for key in ("queuedRequestsSpec", "runningRequestsSpec")}
    assert named <= exposed().keys()
    assert not [name for name in named if name.endswith("_total")]
