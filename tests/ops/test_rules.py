"""The exported rules under Prometheus' own tools, and the product's evaluation beside them: promtool and build/dev/rules_tool get
the same series, and every alert fires at the same moment in both. The product's own table is src/ops/rule_series_test.cpp."""
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOMEPORT = ROOT / "build" / "dev" / "homeport"
TOOL = HOMEPORT.parent / "rules_tool"

pytestmark = [pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus)"),
              pytest.mark.skipif(not HOMEPORT.exists() or not TOOL.exists(), reason="build/dev/homeport or rules_tool is not built")]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "homeport.yml"
    path.write_bytes(subprocess.run([HOMEPORT, "ops", "rules", "--format", "prometheus"], capture_output=True, check=True).stdout)
    return path


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def rule_ids():
    return [r["id"] for r in json.loads(subprocess.run([HOMEPORT, "ops", "rules", "--json"], capture_output=True, check=True).stdout)]


def test_check(rules):
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [r["alert"] for g in yaml.safe_load(rules.read_text())["groups"] for r in g["rules"]]
    assert sorted(names) == sorted(map(alert_name, rule_ids()))


def test_every_rule_has_a_case():
    assert {rule for rule, _, _, fires in CASES if fires is not None} == set(rule_ids())


def requests(**counts):
    """Series of the gateway: 100 requests a step, and what else is counted."""
    return {"homeport_gateway_requests_total": "0+100x2000", **{f"homeport_{name}_total": values for name, values in counts.items()}}


def latencies(fast, all_of_them):
    return {f'vllm:time_to_first_token_seconds_bucket{{le="{le}"}}': f"0+{n}x40" for le, n in (("0.5", fast), ("0.75", all_of_them), ("+Inf", all_of_them))}


UP = 'up{job="homeport",instance="a"}'
# Rule, seconds between two scrapes, series in promtool's notation, and the second at which it fires.
CASES = [
    ("gpu_temperature", 15, {'homeport_gpu_temperature_celsius{gpu="0"}': "90+0x100"}, 300),
    ("gpu_temperature", 15, {'homeport_gpu_temperature_celsius{gpu="0"}': "90+0x18 80 90+0x100"}, 600),
    ("gpu_temperature", 15, {'DCGM_FI_DEV_GPU_TEMP{gpu="0"}': "86+0x100"}, 300),
    ("gpu_temperature", 15, {'homeport_gpu_temperature_celsius{gpu="0"}': "85+0x100"}, None),
    ("gpu_memory", 15, {'homeport_gpu_memory_used_bytes{gpu="0"}': "91+0x40", 'homeport_gpu_memory_total_bytes{gpu="0"}': "100+0x40"}, 60),
    ("gpu_memory", 15, {"DCGM_FI_DEV_FB_USED": "91+0x40", "DCGM_FI_DEV_FB_FREE": "8+0x40", "DCGM_FI_DEV_FB_RESERVED": "1+0x40"}, 60),
    ("latency_p99", 15, latencies(90, 100), 15),
    ("latency_p99", 15, latencies(100, 100), None),
    ("failed_batches", 15, {"homeport_failed_steps_total": "0+6x40", "homeport_steps_total": "0+100x40"}, 15),
    ("failed_batches", 15, {"homeport_failed_steps_total": "0+0x40 9+9x40", "homeport_steps_total": "0+100x81"}, 780),
    ("failed_batches", 15, {"homeport_failed_steps_total": "0+5x40", "homeport_steps_total": "0+100x40"}, None),
    ("request_timeouts", 15, requests(gateway_timeouts="0+3x40"), 15),
    ("request_timeouts", 15, requests(gateway_timeouts="0+0x40 5+5x40"), 735),
    ("request_timeouts", 15, requests(gateway_timeouts="0+2x40"), None),
    ("refusals", 15, requests(refusals="0+2x40"), 15),
    ("refusals", 15, requests(refusals="0+1x40"), None),
    ("node_down", 15, {UP: "1 1 1 0 0 0 1 1"}, 45),
    ("no_token_progress", 15, {"vllm:num_requests_running": "1+0x40", "vllm:generation_tokens_total": "0+7x10 70+0x30"}, 225),
    ("no_token_progress", 15, {"vllm:num_requests_running": "1+0x40", "vllm:generation_tokens_total": "0+0x40", "homeport_step_tokens_total": "0+9x40"}, None),
    ("no_token_progress", 15, {"vllm:num_requests_running": "0+0x40", "vllm:generation_tokens_total": "7+0x40"}, None),
    ("kv_usage", 15, {"vllm:kv_cache_usage_perc": "0.91+0x40"}, 300),
    ("kv_usage", 15, {"vllm:kv_cache_usage_perc": "0.9+0x40"}, None),
    ("queue_growth", 15, {"vllm:num_requests_waiting": "30+0x10 90+60x20"}, 285),
    ("queue_growth", 15, {"vllm:num_requests_waiting": "0+0x10 4+4x3 16+0x20"}, None),
    ("node_flapping", 15, {UP: "1 0 1 0 1 0 1 1 1"}, 75),
    ("node_flapping", 15, {UP: "1 0 1 0 1 1 1 1 1"}, None),
    ("slo_burn_fast", 60, requests(gateway_given_up="0+0x60 5+5x100"), 4680),
    ("slo_burn_fast", 60, {"homeport_gateway_requests_total": "0+2x60", "homeport_gateway_given_up_total": "0+0x20 1+1x3 4+0x30"}, None),
    ("slo_burn_fast", 60, {"homeport_gateway_requests_total": "0+2x60", "homeport_gateway_given_up_total": "0+0x20 1+1x30"}, 1500),
    ("slo_burn_medium", 60, {"homeport_gateway_requests_total": "0+2x60", "homeport_gateway_given_up_total": "0+0x20 1+0x30"}, None),
    ("slo_burn_slow", 300, {"homeport_gateway_requests_total": "0+2x60", "homeport_gateway_given_up_total": "0+0x20 4+0x30"}, None),
    ("slo_burn_medium", 60, requests(gateway_given_up="0+0x60 5+5x100"), 4140),
    ("slo_burn_slow", 300, requests(gateway_given_up="0+0.09x1800"), None),
    ("slo_burn_slow", 300, requests(gateway_given_up="0+0x900 1+1x900"), 296100),
    ("gpu_xid", 15, {'homeport_gpu_xid_errors_total{gpu="0"}': "0+0x9 1+0x30"}, 150),
    ("disk", 15, {"homeport_disk_free_bytes": "9+0x40", "homeport_disk_total_bytes": "100+0x40"}, 300),
    ("incident_store", 15, {"homeport_ops_store_ok": "1 1 0+0x20"}, 60),
    ("incident_store", 15, {"homeport_ops_store_ok": "1 1 0 1 0 1+0x20"}, None),
    ("certificate", 15, {"homeport_certificate_expiry_seconds": "1209600+0x100"}, 15),
    ("dead_man", 15, {"unused": "1+0x10"}, 0),
]
# The product sees a stall at the second reading of the same total, Prometheus looks back over it.
SOONER_BY_A_SCRAPE = {"no_token_progress"}


def alert_name(rule):
    return "Homeport" + "".join(part[0].upper() + part[1:] for part in rule.split("_"))


def expanded(values):
    out = []
    for word in values.split():
        found = re.fullmatch(r"([\d.]+)\+([\d.]+)x(\d+)", word)
        start, step, count = (float(found[1]), float(found[2]), int(found[3])) if found else (float(word), 0.0, 0)
        out += [start + step * i for i in range(count + 1)]
    return out


def fired_in_the_product(rule, interval, series):
    columns = {name: expanded(values) for name, values in series.items()}
    lines = []
    for i in range(max(map(len, columns.values()))):
        pages, up = {"node": "", "gateway": ""}, True
        for name, values in columns.items():
            if i >= len(values):
                continue
            if name == UP:
                up = values[i] > 0
            else:
                gateway = name.startswith(("homeport_gateway_", "homeport_refusals_", "homeport_ops_"))
                pages["gateway" if gateway else "node"] += f"{name} {values[i]:.17g}\n"
        lines.append(json.dumps({"ms": i * interval * 1000, "up": up, **pages}))
    done = subprocess.run([TOOL], input="\n".join(lines), capture_output=True, text=True, check=True)
    at = [int(ms) // 1000 for ms, what, phase in map(str.split, done.stdout.splitlines()) if what == rule and phase == "firing"]
    return at[0] if at else None


@pytest.mark.parametrize("rule,interval,series,fires", CASES)
def test_fires_exactly(rules, tmp_path, rule, interval, series, fires):
    assert fired_in_the_product(rule, interval, series) == fires
    end = (max(len(expanded(v)) for v in series.values()) - 1) * interval
    if fires is not None and rule in SOONER_BY_A_SCRAPE:
        fires -= interval
    moments = [end] if fires is None else [fires - interval, fires] if fires > 0 else [fires]
    document = {"rule_files": [str(rules)], "evaluation_interval": f"{interval}s",
                "tests": [{"interval": f"{interval}s", "input_series": [{"series": s, "values": v} for s, v in series.items()],
                           "alert_rule_test": [{"eval_time": f"{m}s", "alertname": alert_name(rule), "exp_alerts": []} for m in moments]}]}
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", path)  # it objects to what fires, and says when
    objections = [seconds_of(time) for time in re.findall(rf"alertname: {alert_name(rule)}, time: (\w+)", done.stdout + done.stderr)]
    assert objections == ([] if fires is None else [fires]), done.stdout + done.stderr
    assert (done.returncode == 0) == (fires is None)


def seconds_of(text):
    return sum(int(n) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([dhms])", text))
