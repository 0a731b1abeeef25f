"""The exported rules under Prometheus' own tools: promtool check, and promtool test of each of the six alerts at its exact
duration. The product's own evaluation has the same table in src/ops/rule_test.cpp."""
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOMEPORT = ROOT / "build" / "dev" / "homeport"

pytestmark = [pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus)"),
              pytest.mark.skipif(not HOMEPORT.exists(), reason="build/dev/homeport is not built")]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "homeport.yml"
    path.write_bytes(subprocess.run([HOMEPORT, "ops", "rules", "--format", "prometheus"], capture_output=True, check=True).stdout)
    return path


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_check(rules):
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([r for g in yaml.safe_load(rules.read_text())["groups"] for r in g["rules"]]) >= 16


# alert, series, last moment of silence, first moment of firing. Windowed ratios fire as soon as the window says so.
CASES = [
    ("HomeportGpuTemperature", {'homeport_gpu_temperature_celsius{gpu="0"}': "90+0x100"}, "4m45s", "5m"),
    ("HomeportGpuTemperature", {'DCGM_FI_DEV_GPU_TEMP{gpu="0"}': "86+0x100"}, "4m45s", "5m"),
    ("HomeportGpuTemperature", {'homeport_gpu_temperature_celsius{gpu="0"}': "85+0x100"}, "20m", None),
    ("HomeportGpuMemory", {'homeport_gpu_memory_used_bytes{gpu="0"}': "91+0x40", 'homeport_gpu_memory_total_bytes{gpu="0"}': "100+0x40"}, "45s", "1m"),
    ("HomeportGpuMemory", {'DCGM_FI_DEV_FB_USED': "91+0x40", 'DCGM_FI_DEV_FB_FREE': "8+0x40", 'DCGM_FI_DEV_FB_RESERVED': "1+0x40"}, "45s", "1m"),
    ("HomeportLatencyP99", {'vllm:time_to_first_token_seconds_bucket{le="0.5"}': "0+90x40", 'vllm:time_to_first_token_seconds_bucket{le="0.75"}': "0+100x40",
                            'vllm:time_to_first_token_seconds_bucket{le="+Inf"}': "0+100x40"}, "0m", "1m"),
    ("HomeportLatencyP99", {'vllm:time_to_first_token_seconds_bucket{le="0.5"}': "0+100x40", 'vllm:time_to_first_token_seconds_bucket{le="+Inf"}': "0+100x40"}, "9m", None),
    ("HomeportFailedBatches", {'homeport_failed_steps_total{instance="a"}': "0+6x40", 'homeport_steps_total{instance="a"}': "0+100x40"}, "0m", "1m"),
    ("HomeportFailedBatches", {'homeport_failed_steps_total{instance="a"}': "0+5x40", 'homeport_steps_total{instance="a"}': "0+100x40"}, "9m", None),
    ("HomeportRequestTimeouts", {'homeport_gateway_timeouts_total': "0+3x40", 'homeport_gateway_requests_total': "0+100x40"}, "0m", "1m"),
    ("HomeportRequestTimeouts", {'homeport_gateway_timeouts_total': "0+2x40", 'homeport_gateway_requests_total': "0+100x40"}, "9m", None),
    ("HomeportRefusals", {'homeport_refusals_total': "0+2x40", 'homeport_gateway_requests_total': "0+100x40"}, "0m", "1m"),
    ("HomeportRefusals", {'homeport_refusals_total': "0+1x40", 'homeport_gateway_requests_total': "0+100x40"}, "9m", None),
    ("HomeportNoTokenProgress", {'vllm:num_requests_running{instance="a"}': "1+0x40", 'vllm:generation_tokens_total{instance="a"}': "7+0x40"}, "1m", "1m15s"),
    ("HomeportNoTokenProgress", {'vllm:num_requests_running{instance="a"}': "1+0x40", 'vllm:generation_tokens_total{instance="a"}': "0+7x40"}, "9m", None),
    ("HomeportNodeDown", {'up{job="homeport",instance="a"}': "0+0x40"}, None, "0m"),
    ("HomeportCertificate", {"homeport_certificate_expiry_seconds": "1209600+0x100"}, "0m", "1m"),
    ("HomeportDisk", {'homeport_disk_free_bytes': "9+0x40", 'homeport_disk_total_bytes': "100+0x40"}, "4m45s", "5m"),
    ("HomeportDeadMan", {}, None, "0m"),
]


@pytest.mark.parametrize("alert,series,silent,firing", CASES)
def test_fires_exactly(rules, tmp_path, alert, series, silent, firing):
    document = {
        "rule_files": [str(rules)], "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": [{"series": s, "values": v} for s, v in series.items()] or
                   [{"series": "unused", "values": "1+0x10"}], "alert_rule_test": []}]}
    checks = document["tests"][0]["alert_rule_test"]
    if silent:
        checks.append({"eval_time": silent, "alertname": alert, "exp_alerts": []})
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    if firing:  # with "nothing" expected at that moment, promtool must object and name what fired
        document["tests"][0]["alert_rule_test"] = [{"eval_time": firing, "alertname": alert, "exp_alerts": []}]
        path.write_text(yaml.safe_dump(document))
        done = promtool("test", "rules", path)
        assert done.returncode != 0 and f'alertname="{alert}"' in done.stdout + done.stderr, done.stdout + done.stderr
