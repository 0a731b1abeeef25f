"""The deployment kit's golden files (planner_test keeps them equal to what `homeport plan deploy` writes) against the
schemas of what reads them: Kubernetes' own, strictly; kustomize; systemd-analyze; compose; promtool."""
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import PROGRAM, clean_environment  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
KUBERNETES = sorted(GOLDEN.glob("kubernetes-*"))
VERSIONS = ["1.29", "1.33"]


def strict(properties, required=()):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, COUNT, ANY = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}, {}
META = strict({"name": TEXT, "labels": {"type": "object"}}, ["name"])
SELECTOR = strict({"matchLabels": {"type": "object"}, "matchExpressions": {"type": "array"}})


def resource(version, kind, spec):
    return strict({"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": META, "spec": spec},
                  ["apiVersion", "kind", "metadata", "spec"])


# Custom resources have no schema in Kubernetes itself: what their operators' definitions allow of the fields used here.
TRIGGER = strict({"type": {"const": "prometheus"}, "name": TEXT, "metricType": {"enum": ["AverageValue", "Value"]},
                  "metadata": strict({"serverAddress": TEXT, "query": TEXT, "threshold": {"type": "string", "pattern": r"^[0-9.]+$"}},
                                     ["serverAddress", "query", "threshold"])}, ["type", "metadata"])
CUSTOM = {
    "ScaledObject": resource("keda.sh/v1alpha1", "ScaledObject", strict({
        "scaleTargetRef": strict({"apiVersion": TEXT, "kind": TEXT, "name": TEXT}, ["name"]), "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT, "pollingInterval": COUNT, "cooldownPeriod": COUNT,
        "fallback": strict({"failureThreshold": COUNT, "replicas": COUNT}, ["failureThreshold", "replicas"]),
        "advanced": strict({"horizontalPodAutoscalerConfig": strict({"behavior": {"type": "object"}})}),
        "triggers": {"type": "array", "items": TRIGGER, "minItems": 1}}, ["scaleTargetRef", "triggers"])),
    "ServiceMonitor": resource("monitoring.coreos.com/v1", "ServiceMonitor", strict({
        "selector": SELECTOR, "namespaceSelector": strict({"matchNames": {"type": "array", "items": TEXT}, "any": ANY}),
        "endpoints": {"type": "array", "minItems": 1, "items": strict({"port": TEXT, "path": TEXT, "interval": TEXT})}},
        ["selector", "endpoints"])),
    "PrometheusRule": resource("monitoring.coreos.com/v1", "PrometheusRule", strict({"groups": {"type": "array"}}, ["groups"])),
    "InferencePool": resource("inference.networking.k8s.io/v1", "InferencePool", strict({
        "selector": strict({"matchLabels": {"type": "object"}}, ["matchLabels"]),
        "targetPorts": {"type": "array", "items": strict({"number": COUNT}, ["number"]), "minItems": 1},
        "endpointPickerRef": strict({"name": TEXT, "port": strict({"number": COUNT}, ["number"]), "kind": TEXT, "group": ANY,
                                     "failureMode": {"enum": ["FailOpen", "FailClose"]}}, ["name"])},
        ["selector", "targetPorts", "endpointPickerRef"])),
    "prometheus-adapter": strict({"prometheus": strict({"url": TEXT, "port": COUNT}, ["url", "port"]), "rules": strict({"custom": {
        "type": "array", "minItems": 1, "items": strict({
            "seriesQuery": TEXT, "resources": strict({"overrides": {"type": "object"}}), "name": strict({"as": TEXT}, ["as"]),
            "metricsQuery": TEXT}, ["seriesQuery", "resources", "name", "metricsQuery"])}})}, ["prometheus", "rules"]),
    "Kustomization": strict({"apiVersion": TEXT, "kind": TEXT, "namespace": TEXT, "resources": {"type": "array", "items": TEXT}},
                            ["apiVersion", "kind", "resources"]),
}


def documents(folder):
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "prometheus-adapter.yaml":  # values of a chart, not an object
            continue
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_strictly(folder, version):
    kinds = []
    for name, document in documents(folder):
        kind = document["kind"]
        kinds.append(kind)
        if kind in CUSTOM:
            jsonschema.validate(document, CUSTOM[kind])
        else:
            kubernetes_validate.validate(document, version, strict=True)
    for kind in ("StatefulSet", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler", "ScaledObject",
                 "ServiceMonitor", "PrometheusRule", "InferencePool", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim"):
        assert kind in kinds
    with pytest.raises(kubernetes_validate.ValidationError):  # the check itself can fail
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}, version, strict=True)


def pod_specs(folder):
    for _, document in documents(folder):
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
def test_pods_are_closed_and_survive_operations(folder):
    for name, spec in pod_specs(folder):
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"] and context["capabilities"]["drop"] == ["ALL"]
            assert "memory" in container["resources"]["limits"]
            assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
            if name.endswith("redis"):
                continue
            # Liveness must not depend on load or loading; the start-up probe carries the load time; drains finish before the kill.
            assert container["livenessProbe"]["httpGet"]["path"] == "/health"
            assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
            if name.endswith("node"):
                startup = container["startupProbe"]
                assert startup["httpGet"]["path"] == "/ready" and startup["periodSeconds"] * startup["failureThreshold"] >= 300
            sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            assert spec["terminationGracePeriodSeconds"] >= sleep + 600 + 10
    gpus = [c["resources"]["limits"].get("nvidia.com/gpu") for n, s in pod_specs(folder) for c in s["containers"] if n.endswith("node")]
    assert gpus == (["1"] if folder.name.endswith("gpu") else [None])


@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
def test_labels_ports_and_names_agree(folder):
    by_kind = {}
    for _, document in documents(folder):
        by_kind.setdefault(document["kind"], []).append(document)
    workloads = by_kind["Deployment"] + by_kind["StatefulSet"]
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in workloads]
    selectors = [s["spec"]["selector"] for s in by_kind["Service"]] + [p["spec"]["selector"]["matchLabels"] for p in by_kind["PodDisruptionBudget"]]
    for selector in selectors:
        assert any(selector.items() <= label.items() for label in labels), selector
    nodes = by_kind["StatefulSet"][0]
    lines = by_kind["ConfigMap"][0]["data"]["nodes.txt"].split()
    scaled = by_kind["ScaledObject"][0]["spec"]
    assert len(lines) == scaled["maxReplicaCount"] == by_kind["HorizontalPodAutoscaler"][0]["spec"]["maxReplicas"]
    assert lines[0].endswith(f'{nodes["metadata"]["name"]}-0.{nodes["spec"]["serviceName"]}:8000')
    assert scaled["minReplicaCount"] >= 1
    gateway = next(d for d in by_kind["Deployment"] if d["metadata"]["name"].endswith("gateway"))
    assert gateway["spec"]["replicas"] == 2


def command_lines():
    """Every command line of our program in the generated files, with the environment of units."""
    for folder in sorted(GOLDEN.iterdir()):
        if folder.name.startswith("kubernetes"):
            for name, spec in pod_specs(folder):
                for container in spec["containers"]:
                    if not name.endswith("redis"):
                        yield f"{folder.name}/{name}", container["args"], {}
        elif folder.name.startswith("compose"):
            for name, service in yaml.safe_load((folder / "compose.yaml").read_text())["services"].items():
                if name != "redis":
                    yield f"{folder.name}/{name}", service["command"], {}
        else:
            env = dict(line.split("=", 1) for line in (folder / "node-0.env").read_text().split())
            for unit in sorted(folder.glob("*.service")):
                line = re.search(r"^ExecStart=(.*)$", unit.read_text(), re.M).group(1)
                yield f"{folder.name}/{unit.name}", shlex.split(line)[1:], env if "node" in unit.name else {}


@pytest.mark.parametrize("where, line, env", list(command_lines()), ids=lambda v: v if isinstance(v, str) else None)
def test_the_program_takes_every_flag(where, line, env, tmp_path):
    if line[0] == "node":  # parses and checks everything, then prints instead of loading
        done = subprocess.run([PROGRAM, *line, "--print-config"], capture_output=True, text=True, check=False, env=clean_environment(**env))
        assert done.returncode == 0, done.stderr
        refused = subprocess.run([PROGRAM, *line, "--max-stepp-tokens=3", "--print-config"], capture_output=True, text=True, check=False)
        assert refused.returncode == 2  # the check itself can fail
        return
    assert line[0] == "gateway"
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("node-0=127.0.0.1:9\n")
    here = [re.sub(r"^--nodes-file=.*", f"--nodes-file={nodes}", re.sub(r"^--port=.*", "--port=0", re.sub(r"^--host=.*", "--host=127.0.0.1", a)))
            for a in line]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([PROGRAM, *here], stdout=out, stderr=subprocess.STDOUT, env=clean_environment(**env))
    try:
        deadline, port = time.monotonic() + 120, None
        while port is None and time.monotonic() < deadline and process.poll() is None:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())
            port = found.group(1) if found else time.sleep(0.02)
        assert port, log.read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
            metrics = answer.read().decode()
        for name in ("homeport_gateway_requests_total", "homeport_gateway_waiting_requests"):
            assert re.search(rf"^{name}\b", metrics, re.M), f"keda.yaml asks for {name}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
def test_scalers_ask_for_metrics_that_the_node_has(folder):
    """Names in PromQL and in the adapter against the names that the sources register (gateway's: see above)."""
    exported = "".join(p.read_text() for p in sorted((Path(__file__).parents[2] / "src").rglob("*_metrics.cpp")))
    scaled = next(d for _, d in documents(folder) if d["kind"] == "ScaledObject")
    asked = {name for t in scaled["spec"]["triggers"] for name in re.findall(r"vllm:\w+", t["metadata"]["query"])}
    adapter = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())
    jsonschema.validate(adapter, CUSTOM["prometheus-adapter"])
    asked |= {re.match(r"[\w:]+", r["seriesQuery"]).group(0) for r in adapter["rules"]["custom"]}
    for name in asked:
        assert f'"{name.removesuffix("_bucket")}"' in exported, name
    hpa = next(d for _, d in documents(folder) if d["kind"] == "HorizontalPodAutoscaler")
    assert {m["pods"]["metric"]["name"] for m in hpa["spec"]["metrics"]} == {r["name"]["as"] for r in adapter["rules"]["custom"]}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl")
@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
def test_kustomize_builds(folder):
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) > 12


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
@pytest.mark.parametrize("folder", KUBERNETES, ids=lambda p: p.name)
def test_rules_pass_promtool(folder, tmp_path):
    rule = next(d for _, d in documents(folder) if d["kind"] == "PrometheusRule")
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("systemd-*")), ids=lambda p: p.name)
def test_units_verify(folder, tmp_path):
    for path in folder.iterdir():  # the program is not installed where tests run
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/bin/homeport", "/usr/bin/true"))
    units = [tmp_path / "homeport-node@0.service", tmp_path / "homeport-gateway.service", tmp_path / "homeport.target"]
    (tmp_path / "homeport-node@0.service").write_text((tmp_path / "homeport-node@.service").read_text())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, units)], capture_output=True, text=True, check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if str(tmp_path) in line or "homeport" in line]
    assert done.returncode == 0 and not complaints, complaints or done.stderr
    broken = tmp_path / "homeport-gateway.service"
    broken.write_text(broken.read_text().replace("MemoryMax=4G", "MemoryMaxx=4G"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(broken)], capture_output=True, text=True, check=False)
    assert "MemoryMaxx" in done.stderr  # the check itself can fail


SERVICE = strict({
    "image": TEXT, "command": {"type": "array", "items": {"type": "string"}}, "ports": {"type": "array"}, "networks": {"type": "array", "items": TEXT},
    "restart": {"enum": ["always"]}, "stop_grace_period": {"type": "string", "pattern": "^[0-9]+s$"}, "user": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
    "read_only": {"const": True}, "tmpfs": {"type": "array", "items": TEXT}, "shm_size": TEXT, "cap_drop": {"const": ["ALL"]},
    "security_opt": {"const": ["no-new-privileges:true"]}, "ulimits": strict({"nofile": COUNT}),
    "volumes": {"type": "array", "items": strict({"type": {"const": "bind"}, "source": TEXT, "target": TEXT, "read_only": {"const": True}},
                                                 ["type", "source", "target"])},
    "deploy": strict({"resources": strict({
        "limits": strict({"memory": TEXT}), "reservations": strict({"devices": {"type": "array", "items": strict({
            "driver": {"const": "nvidia"}, "device_ids": {"type": "array", "items": TEXT}, "capabilities": {"const": ["gpu"]}},
            ["capabilities"])}})})}),
}, ["image", "restart", "read_only", "cap_drop", "security_opt", "user"])
COMPOSE = strict({"name": TEXT, "services": {"type": "object", "additionalProperties": SERVICE},
                  "networks": {"type": "object", "additionalProperties": strict({"internal": {"type": "boolean"}})}}, ["services"])


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("compose-*")), ids=lambda p: p.name)
def test_compose_file(folder):
    document = yaml.safe_load((folder / "compose.yaml").read_text())
    jsonschema.validate(document, COMPOSE)
    nodes = sorted(name for name in document["services"] if name.startswith("node-"))
    listed = next(c for c in document["services"]["gateway"]["command"] if c.startswith("--node="))
    assert listed == "--node=" + ",".join(f"{n}={n}:8000" for n in nodes)
    devices = [document["services"][n]["deploy"]["resources"].get("reservations", {}).get("devices") for n in nodes]
    assert all(devices) == folder.name.endswith("gpu")
    for service in document["services"].values():
        assert set(service["networks"]) <= set(document["networks"])
    assert document["networks"]["back"]["internal"] and "front" not in document["services"][nodes[0]]["networks"]
