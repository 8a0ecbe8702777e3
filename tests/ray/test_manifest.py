"""The KubeRay manifest, as far as it can be known without a cluster: its Serve configuration is Ray's and ours."""

from __future__ import annotations

import inspect
from pathlib import Path

import yaml
from ray.serve.schema import ServeDeploySchema

import opera_service.ray_serve
from opera_service.ray_serve.app import COORDINATOR, SCALING, SCORER, app_with
from opera_service.ray_serve.args import settings_of

MANIFEST = Path(__file__).parents[2] / "deploy" / "kustomize" / "components" / "ray" / "rayservice.yaml"
SPEC = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["spec"]
CONFIG = yaml.safe_load(SPEC["serveConfigV2"])


def test_ray_takes_the_configuration_and_nothing_in_it_is_lost():
    schema = ServeDeploySchema.model_validate(CONFIG)
    assert schema.model_dump(mode="json", exclude_unset=True) == CONFIG
    (application,) = schema.applications
    module, name = application.import_path.split(":")
    assert module == opera_service.ray_serve.__name__
    assert list(inspect.signature(getattr(opera_service.ray_serve, name)).parameters) == ["args"]


def test_its_arguments_are_settings_and_its_deployments_are_the_apps(monkeypatch, tmp_path):
    monkeypatch.setenv("OPERA_API_KEYS", "key")
    (application,) = CONFIG["applications"]
    args = {**application["args"], "spool_dir": str(tmp_path)}
    assert settings_of(args).engine == "vllm"
    assert app_with(args)._bound_deployment.name == SCORER
    (scorer,) = application["deployments"]
    assert scorer.keys() - {"name", "ray_actor_options"} <= SCALING.keys()
    assert {scorer["name"]} <= {SCORER, COORDINATOR}


def test_there_is_room_for_as_many_engines_as_the_scorer_may_have():
    (scorer,) = CONFIG["applications"][0]["deployments"]
    (workers,) = SPEC["rayClusterConfig"]["workerGroupSpecs"]
    pod = workers["template"]["spec"]
    (container,) = pod["containers"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    scaling = scorer["autoscaling_config"]
    assert gpus * workers["maxReplicas"] >= scaling["max_replicas"] * scorer["ray_actor_options"]["num_gpus"]
    assert gpus * workers["minReplicas"] >= scaling["min_replicas"]
    assert int(container["resources"]["requests"]["cpu"]) >= gpus * scorer["ray_actor_options"]["num_cpus"]
    assert pod["terminationGracePeriodSeconds"] > scorer["graceful_shutdown_timeout_s"]
    # The head has no place for replicas, and every pod sees the disk where weights meet.
    assert SPEC["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (SPEC["rayClusterConfig"]["headGroupSpec"], workers):
        (each,) = group["template"]["spec"]["containers"]
        assert "/shared" in {mount["mountPath"] for mount in each["volumeMounts"]}
    assert CONFIG["applications"][0]["args"]["spool_dir"].startswith("/shared/")


def test_the_cluster_runs_the_ray_that_is_tested_here():
    import ray

    assert SPEC["rayClusterConfig"]["rayVersion"] == ray.__version__
    pyproject = (MANIFEST.parents[4] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"ray[data,serve]=={ray.__version__}" in pyproject
