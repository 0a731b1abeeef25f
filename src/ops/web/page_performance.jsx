import React, { useDeferredValue, useState } from "react";
import { t, useLanguage } from "./i18n.js";
import { degrees, number, percent, seconds } from "./format.js";
import { Choice } from "./parts.jsx";
import { Chart } from "./chart.jsx";

export function WindowChoice({ value, onChange }) {
  return <Choice label={t("window")} value={value} onChange={onChange} options={["15m", "6h", "7d"].map((w) => [w, t(w)])} />;
}

const Charts = React.memo(function Charts({ window }) {
  useLanguage();
  const common = { window };
  return (
    <div className="charts">
      <Chart {...common} title={t("c_first_token")} format={seconds} lanes={[["ttft:p50", "P50"], ["ttft:p90", "P90"], ["ttft:p99", "P99"]]} />
      <Chart {...common} title={t("c_gap")} format={seconds} lanes={[["gap:p50", "P50"], ["gap:p90", "P90"], ["gap:p99", "P99"]]} />
      <Chart {...common} title={t("c_tokens")} format={number} fill lanes={[["tokens:mean", t("generated")], ["prompt_tokens:mean", t("prompt")]]} />
      <Chart {...common} title={t("c_requests")} format={number} fill lanes={[["requests:mean", t("mean")], ["requests:peak", t("max")]]} />
      <Chart {...common} title={t("c_queue")} format={number} lanes={[["open:mean", t("open")], ["waiting:mean", t("waiting")], ["waiting:peak", `${t("waiting")}, ${t("max")}`]]} />
      <Chart {...common} title={t("c_errors")} format={percent} lanes={[["errors:mean", t("error")], ["timeouts:mean", t("timeouts")], ["refusals:mean", t("refusals")]]} />
      <Chart {...common} title={t("c_kv")} format={percent} nodes="kv:mean" highest={1} />
      <Chart {...common} title={t("c_cache")} format={percent} nodes="cache_hit:mean" highest={1} />
      <Chart {...common} title={t("c_cpu")} format={percent} nodes="cpu:mean" highest={1} />
      <Chart {...common} title={t("c_gpu")} format={percent} nodes="gpu:mean" highest={1} />
      <Chart {...common} title={t("c_temperature")} format={degrees} nodes="gpu_temperature:peak" />
    </div>
  );
});

export function Performance({ rest }) {
  const [window, set] = useState(["15m", "6h", "7d"].includes(rest[0]) ? rest[0] : "15m");
  const shown = useDeferredValue(window); // the button answers at once, the charts follow
  return (
    <>
      <div className="tools"><WindowChoice value={window} onChange={set} /></div>
      <Charts window={shown} />
    </>
  );
}
