"""Container, Kubernetes and systemd files agree with the code; no engine is at hand to run them."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.dockerfile import environment, instructions

from llmserve.api.edge.draining import EXIT_SECONDS
from llmserve.service.service import FAREWELL_SECONDS
from llmserve.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "scripts" / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SHUTDOWN_SECONDS = Settings().drain_timeout_seconds + FAREWELL_SECONDS + EXIT_SECONDS
ROUTES = ("/health", "/health/ready")
CACHES = {"LLMSERVE_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "HF_HOME"}
(CACHE,) = [rest for name, rest in instructions() if name == "VOLUME"]


def manifests() -> dict[str, dict[str, Any]]:
    folder = DEPLOY / "kubernetes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found = {}
    for name in kustomization["resources"]:
        document = yaml.safe_load((folder / name).read_text())
        found[document["kind"]] = document
    return found


def container() -> dict[str, Any]:
    (only,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_compose_builds_a_target_of_a_dockerfile_that_exists() -> None:
    build = COMPOSE["services"]["llmserve"]["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text()
    assert f" AS {build['target']}\n" in dockerfile
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    assert all((ROOT / name).exists() for names in copied for name in names)
    ignored = (ROOT / f"{build['dockerfile']}.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert {name.removeprefix("./") for names in copied for name in names} <= kept


def test_compose_sets_settings_that_exist() -> None:
    for name, value in COMPOSE["services"]["llmserve"]["environment"].items():
        field = name.removeprefix(ENV_PREFIX).lower()
        assert getattr(Settings(**{field: value}), field) == value


def test_compose_asks_for_health_where_the_server_is() -> None:
    service = COMPOSE["services"]["llmserve"]
    assert service["healthcheck"]["test"] == ["CMD", "llmserve", "health", "--ready"]
    port = service["environment"]["LLMSERVE_PORT"]
    assert service["expose"] == [str(port)]
    for file in ("nginx/nginx.conf", "prometheus/prometheus.yml"):
        asked = re.findall(r"llmserve:(\d+)", (DEPLOY / file).read_text())
        assert set(asked) == {str(port)}, file


def test_compose_keeps_what_was_compiled_in_a_volume() -> None:
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["llmserve"]["volumes"])
    assert mounts["cache"] == CACHE
    assert "cache" in COMPOSE["volumes"]
    assert not CACHES & set(COMPOSE["services"]["llmserve"]["environment"]), "the image's hold"


def test_compose_waits_longer_than_a_shutdown_takes() -> None:
    grace = int(COMPOSE["services"]["llmserve"]["stop_grace_period"].removesuffix("s"))
    assert grace > SHUTDOWN_SECONDS


def test_compose_mounts_what_exists_and_publishes_the_proxy_alone() -> None:
    published = {name: s["ports"] for name, s in COMPOSE["services"].items() if "ports" in s}
    assert set(published) == {"nginx", "grafana"}
    assert published["grafana"] == ["127.0.0.1:3000:3000"]
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            is_made = source.endswith("nginx/tls")  # by make-certificate
            is_named = source in COMPOSE["volumes"]
            assert is_made or is_named or (ROOT / source).exists(), source
        for other in service.get("depends_on", ()):
            assert other in COMPOSE["services"]


def test_compose_has_a_way_out_only_for_what_is_published() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    services = COMPOSE["services"]
    assert all("inside" in service["networks"] for service in services.values())
    assert {n for n, s in services.items() if "outside" in s["networks"]} == {"nginx", "grafana"}


def test_compose_checks_everyone_and_waits_only_for_what_is_checked() -> None:
    services = COMPOSE["services"]
    assert all("test" in service["healthcheck"] for service in services.values())
    awaited = [d for s in services.values() for d in s.get("depends_on", {}).values()]
    assert awaited == [{"condition": "service_healthy"}] * len(awaited) != []


def test_both_images_inherit_what_they_have_in_common() -> None:
    stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    by_name = {stage.split()[2]: stage for stage in stages}
    for word in ("ENTRYPOINT", "HEALTHCHECK", "EXPOSE", "STOPSIGNAL"):
        assert [name for name, stage in by_name.items() if f"\n{word} " in stage] == ["base"]
    for name in ("cpu", "cuda"):
        assert by_name[name].startswith(f"torch-{name} AS {name}\n")
        assert by_name[f"torch-{name}"].startswith("base AS ")
        assert by_name[name].rstrip().endswith("\nUSER llmserve")
    assert ".[gpu,grpc,tracing]" in by_name["cuda"]


def test_grafana_is_provisioned_with_what_compose_mounts() -> None:
    source = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (datasource,) = yaml.safe_load(source.read_text())["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "llmserve.json").read_text())
    used = {p["datasource"]["uid"] for p in dashboard["panels"] if "datasource" in p}
    assert used == {datasource["uid"]}
    provider = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "dashboards" / "llmserve.yml").read_text()
    )["providers"][0]
    mounts = [v.split(":")[1] for v in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


def test_kubernetes_selects_the_pods_that_it_makes() -> None:
    found = manifests()
    assert {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
        "NetworkPolicy", "PersistentVolumeClaim",
    } == set(found)  # fmt: skip
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    scaled = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == (
        "Deployment",
        found["Deployment"]["metadata"]["name"],
    )


def test_kubernetes_probes_routes_and_ports_that_exist() -> None:
    main = container()
    (port,) = main["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        target = main[probe]["httpGet"]
        assert target["path"] in ROUTES
        assert target["port"] == port["name"]
    assert main["livenessProbe"]["httpGet"]["path"] == "/health"
    assert main["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert manifests()["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    allowed = manifests()["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"]
    (set_to,) = [v["value"] for v in main["env"] if v["name"] == "LLMSERVE_PORT"]
    metadata = manifests()["Deployment"]["spec"]["template"]["metadata"]
    scraped = metadata["annotations"]["prometheus.io/port"]
    assert str(allowed) == str(port["containerPort"]) == set_to == scraped


def test_kubernetes_sets_settings_that_exist_and_leaves_time_to_drain() -> None:
    names = {variable["name"] for variable in container()["env"]}
    assert all(name.startswith(ENV_PREFIX) for name in names)
    fields = {name.removeprefix(ENV_PREFIX).lower() for name in names}
    assert fields <= set(Settings.model_fields)
    spec = manifests()["Deployment"]["spec"]["template"]["spec"]
    pause = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > pause + SHUTDOWN_SECONDS
    assert spec["enableServiceLinks"] is False
    assert "replicas" not in manifests()["Deployment"]["spec"], "the autoscaler decides"


def test_kubernetes_serves_a_model_that_is_in_the_image() -> None:
    (model,) = [v["value"] for v in container()["env"] if v["name"] == "LLMSERVE_MODELS"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    workdir = re.search(r"^WORKDIR (\S+)", dockerfile, flags=re.MULTILINE)
    assert workdir is not None
    inside = Path(model).relative_to(workdir[1])
    assert f"COPY {inside} ./{inside}\n" in dockerfile
    assert (ROOT / inside).is_dir()


def test_kubernetes_mounts_what_it_declares_and_runs_without_root() -> None:
    spec = manifests()["Deployment"]["spec"]["template"]["spec"]
    declared = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == declared
    claim = next(v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]
                 if "persistentVolumeClaim" in v)  # fmt: skip
    assert claim == manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    uid = re.search(r"--uid (\d+)", (DEPLOY / "Dockerfile").read_text())
    assert uid is not None
    assert spec["securityContext"]["runAsUser"] == int(uid[1])
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert "/tmp" in [mount["mountPath"] for mount in container()["volumeMounts"]]


def test_kubernetes_and_systemd_have_a_place_for_what_is_compiled() -> None:
    assert environment().keys() >= CACHES
    assert not CACHES & {variable["name"] for variable in container()["env"]}, "the image's hold"
    assert CACHE in [mount["mountPath"] for mount in container()["volumeMounts"]]
    unit = (DEPLOY / "systemd" / "llmserve.service").read_text()
    assert "CacheDirectory=llmserve\n" in unit, "which systemd makes as /var/cache/llmserve"
    for name in CACHES:
        assert re.search(rf"^Environment=.*\b{name}={CACHE}\b", unit, re.MULTILINE), name


def test_the_autoscalers_metric_is_the_one_that_the_adapter_makes() -> None:
    metric = manifests()["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    adapter = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())
    assert [rule["name"]["as"] for rule in adapter["rules"]["custom"]] == [metric]


@pytest.mark.parametrize(
    "name", ["llmserve.service", "llmserve-warm.service", "llmserve-warm.timer"]
)
def test_systemd_units_start_what_exists(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / name)
    if name.endswith(".timer"):
        assert unit["Timer"]["OnCalendar"]
        return
    service = unit["Service"]
    program = service["ExecStart"].split()[0].removeprefix("/opt/llmserve/")
    assert program == ".venv/bin/llmserve" or (ROOT / program).exists()
    if name == "llmserve.service":
        assert int(service["TimeoutStopSec"]) > SHUTDOWN_SECONDS
        assert service["KillMode"] == "mixed"
        assert service["NoNewPrivileges"] == "yes"
        # The service's home is read-only, and the temporary folder is cleaned.
        assert (service["RuntimeDirectory"], service["RuntimeDirectoryMode"]) == (
            "llmserve",
            "0700",
        )


def test_the_conda_environment_installs_this_project() -> None:
    environment = yaml.safe_load((DEPLOY / "environment.yml").read_text())
    assert "python=3.11" in environment["dependencies"]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    for line in pip:
        path = line.split()[1].partition("[")[0]
        assert (DEPLOY / path).exists(), path
