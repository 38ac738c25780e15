"""What is shipped to run callpath with: as strict as it says, and fitting together."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.wiring import contact_rows
from config.loader import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CLUSTER = {
    (one["kind"], one["metadata"]["name"]): one
    for one in yaml.safe_load_all((DEPLOY / "kubernetes" / "callpath.yaml").read_text())
}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNIT = (DEPLOY / "systemd" / "callpath.service").read_text()


# --- Kubernetes ------------------------------------------------------------------------------


def pod() -> dict[str, Any]:
    return dict(CLUSTER["StatefulSet", "callpath"]["spec"]["template"]["spec"])


def test_the_pod_is_restricted() -> None:
    """The restricted standard, which the namespace enforces: kubernetes.io, pod security."""
    labels = CLUSTER["Namespace", "callpath"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    whole, (container,) = pod()["securityContext"], pod()["containers"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["fsGroup"] == 22550
    assert whole["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    assert pod()["automountServiceAccountToken"] is False
    assert {next(k for k in v if k != "name") for v in pod()["volumes"]} == {
        "configMap",
        "persistentVolumeClaim",
    }


def test_the_probes_ask_what_there_is_under_a_name_that_is_ours() -> None:
    (container,) = pod()["containers"]
    paths = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        paths[probe] = asked["path"]
        assert asked["port"] == container["ports"][0]["name"]
        assert {"name": "Host", "value": "localhost"} in asked["httpHeaders"]
    assert paths["livenessProbe"] == "/-/healthy", "a line that is down is no ill health"
    assert paths["readinessProbe"] == "/-/ready"


def test_the_parts_of_the_cluster_name_each_other(tmp_path: Path) -> None:
    labels = CLUSTER["StatefulSet", "callpath"]["spec"]["template"]["metadata"]["labels"]
    assert CLUSTER["Service", "callpath"]["spec"]["selector"].items() <= labels.items()
    selected = CLUSTER["NetworkPolicy", "callpath"]["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert {v.get("configMap", {}).get("name") for v in pod()["volumes"]} >= {"callpath"}
    assert ("PersistentVolumeClaim", "callpath") in CLUSTER
    file = tmp_path / "callpath.yaml"
    file.write_text(CLUSTER["ConfigMap", "callpath"]["data"]["callpath.yaml"])
    settings = load(file).settings
    assert settings.vantage.network == "hosting"
    assert "callpath.callpath.svc" in settings.web.hosts
    assert CLUSTER["StatefulSet", "callpath"]["spec"]["replicas"] == 1


# --- compose ---------------------------------------------------------------------------------


def test_every_service_is_hardened_and_published_to_loopback_alone() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert name == "callpath" or ":" in service["image"], "a version, not whatever is newest"


def test_what_compose_mounts_is_there() -> None:
    for name, service in COMPOSE["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)


def test_grafana_finds_its_data_and_its_dashboards() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE["services"]
    (given,) = yaml.safe_load((folder / "dashboards" / "callpath.yaml").read_text())["providers"]
    mounted = [v.split(":")[1] for v in COMPOSE["services"]["grafana"]["volumes"]]
    assert given["options"]["path"] in mounted
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert (DEPLOY / "grafana" / "dashboards" / Path(home).name).exists()


def test_prometheus_of_compose_reaches_the_others() -> None:
    config = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    asked = [
        t for job in config["scrape_configs"] for s in job["static_configs"] for t in s["targets"]
    ]
    alerts = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    names = {place.split(":")[0] for place in (*asked, *alerts)} - {"localhost"}
    assert names <= set(COMPOSE["services"])
    ours = load(DEPLOY / "container" / "callpath.yaml").settings.web
    assert "callpath" in ours.hosts, "or Prometheus is refused"


# --- systemd ---------------------------------------------------------------------------------


def test_the_unit_exposes_little() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    command = [program, "security", "--offline=true", str(DEPLOY / "systemd" / "callpath.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    level = re.search(r"exposure level for callpath.service: ([0-9.]+)", said)
    assert level, said
    assert float(level[1]) <= 1.5


def test_the_unit_leaves_what_the_agent_needs() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT, flags=re.MULTILINE))
    assert settings["StateDirectory"] == "callpath"
    assert {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"} <= set(
        settings["RestrictAddressFamilies"].split()
    )
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == ""
    assert "resources" not in settings["SystemCallFilter"], "the page raises its limit of sockets"


# --- examples --------------------------------------------------------------------------------


def test_a_metered_line_costs_what_it_says() -> None:
    config = load(DEPLOY / "examples" / "metered.yaml")
    planned = sum(row["bytes_per_day"] for row in contact_rows(config))
    assert planned <= 0.9 * config.settings.limits.bytes_per_day, "contrasts come on top"
    assert config.settings.limits.bytes_per_day == 20 * 2**20
