"""Every query of ours parses and asks for series, and labels, that the service really shows."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml

from .cluster import KUSTOMIZE, ROOT, one, overlay, single, with_components
from .exposed import TARGET_LABELS, exposed

MONITORING = KUSTOMIZE / "cluster" / "rules"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())


def queries() -> Iterator[tuple[str, str]]:
    """(where, query) of dashboard, alerts and autoscalers."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
            yield f"variable {variable['name']}", selector[1]
    for group in yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    yield "keda", keda_query()
    yield "hpa", adapter_query()


def keda_query() -> str:
    return one(overlay("gpu-vllm"), "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]


def adapter_query() -> str:
    """The query that prometheus-adapter makes of its rule for the pods of a namespace."""
    (rule,) = yaml.safe_load((ROOT / "deploy" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="opera-reward",pod=~"a|b"')
    return query.replace("<<.GroupBy>>", "pod")


QUERIES = pytest.mark.parametrize(
    "query", [pytest.param(query, id=f"{where} {n}") for n, (where, query) in enumerate(queries())]
)


def parts(expression: object) -> Iterator[object]:
    """The expression and all that it is made of."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from parts(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from parts(inner)
    selector = getattr(expression, "vector_selector", None)
    if selector is not None:
        yield from parts(selector)


def parsed(query: str) -> object:
    return promql_parser.parse(query.replace("$__rate_interval", "1m"))


@QUERIES
def test_queries_name_only_what_is_exposed(query: str):
    selectors = [part for part in parts(parsed(query)) if isinstance(part, promql_parser.VectorSelector)]
    assert selectors
    for selector in selectors:
        assert selector.name in exposed(), f"{selector.name} is not on /metrics"
        labels = exposed()[selector.name]
        assert {matcher.name for matcher in selector.matchers.matchers} <= {*labels, *TARGET_LABELS}
        for matcher in selector.matchers.matchers:
            assert matcher.name != "le" or matcher.value in labels["le"], "no such bucket"


@QUERIES
def test_queries_group_by_labels_that_exist(query: str):
    for part in parts(parsed(query)):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            inner = [one for one in parts(part.expr) if isinstance(one, promql_parser.VectorSelector)]
            known = {label for selector in inner for label in exposed()[selector.name]}
            assert set(part.modifier.labels) <= known | TARGET_LABELS


def test_the_check_finds_what_is_not_there():
    with pytest.raises(AssertionError, match="opera_queue_token "):
        test_queries_name_only_what_is_exposed("sum(opera_queue_token)")
    with pytest.raises(AssertionError):
        test_queries_name_only_what_is_exposed('rate(opera_requests_total{code="200"}[$__rate_interval])')
    with pytest.raises(AssertionError):
        test_queries_group_by_labels_that_exist("sum by (code) (opera_requests_total)")


def test_the_adapters_rule_gives_the_metric_that_the_autoscaler_asks_for():
    (rule,) = yaml.safe_load((ROOT / "deploy" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (metric,) = one(with_components("hpa"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]


def test_every_counter_is_read_as_a_rate():
    for _, query in queries():
        for part in parts(parsed(query)):
            if isinstance(part, promql_parser.Call) and part.func.name in ("rate", "increase"):
                (selector,) = [one for one in parts(part) if isinstance(one, promql_parser.VectorSelector)]
                assert re.search("_(total|sum|count|bucket)$", selector.name)


def test_panels_do_not_overlap_and_ids_are_unique():
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        own = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not own & cells, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        cells |= own
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Service",
        "Engine",
        "Reward health",
    ]


def test_grafana_finds_it():
    found = one(single("rules"), "ConfigMap", "opera-reward-dashboard")
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(found["data"]["dashboard.json"]) == DASHBOARD


def test_compose_labels_its_target_like_the_operator():
    """Or every panel is empty there."""
    (job,) = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"]
    assert job["job_name"] == "opera-reward"
    assert set(target["labels"]) == TARGET_LABELS - {"job", "instance"}
