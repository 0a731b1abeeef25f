import React, { useMemo, useState } from "react";
import { post, useSection, useSession } from "./store.js";
import { named, t, useLanguage } from "./i18n.js";
import { clock, count, exactTime, number } from "./format.js";
import { Card, Pill, Table } from "./parts.jsx";

function Channels() {
  const channels = [...useSection("channels").values()];
  const session = useSession();
  const [said, setSaid] = useState({});
  const test = async (name) => {
    setSaid((s) => ({ ...s, [name]: "…" }));
    try {
      const answer = await post("notices", { channel: name });
      const one = answer.results.find((r) => r.channel === name);
      setSaid((s) => ({ ...s, [name]: one && one.ok ? t("test_sent") : (one && one.error) || t("not_ok") }));
    } catch (error) {
      setSaid((s) => ({ ...s, [name]: error.message }));
    }
  };
  const columns = [
    { id: "name", title: t("name"), cell: (c) => <span className="strong">{c.name}</span> },
    { id: "kind", title: t("kind"), cell: (c) => c.kind },
    { id: "sent", title: t("sent"), right: true, cell: (c) => count(c.sent) },
    { id: "failed", title: t("failed"), right: true, cell: (c) => count(c.failed) },
    { id: "queued", title: t("queued"), right: true, cell: (c) => count(c.queued) },
    { id: "error", title: t("last_error"), cell: (c) => <span className="clip">{said[c.name] || c.last_error}</span> },
    { id: "test", title: "", cell: (c) => session.may_act && <button type="button" onClick={() => test(c.name)}>{t("test")}</button> },
  ];
  return <Card title={t("channels")}><Table label={t("channels")} columns={columns} rows={channels} rowKey={(c) => c.name} empty={t("no_channels")} /></Card>;
}

export function Alerts() {
  const language = useLanguage();
  const alerts = [...useSection("alerts").values()].sort((a, b) => (a.phase === b.phase ? b.since_ms - a.since_ms : a.phase === "firing" ? -1 : 1));
  const columns = useMemo(() => [
    { id: "phase", title: t("state"), sort: (a) => a.phase, cell: (a) => <Pill tone={a.rule === "dead_man" ? "idle" : a.phase === "firing" ? (a.incident === 1 ? "bad" : "warn") : "info"}>{t(a.phase)}</Pill> },
    { id: "rule", title: t("rule"), sort: (a) => a.rule, cell: (a) => <span><span className="strong">{named(a)}</span> <small>{a.rule}</small></span> },
    { id: "where", title: t("where"), sort: (a) => a.instance, cell: (a) => a.instance || "–" },
    { id: "level", title: t("level"), sort: (a) => a.level, cell: (a) => t(a.level) },
    { id: "value", title: t("value"), right: true, sort: (a) => a.value, cell: (a) => number(a.value) },
    { id: "threshold", title: t("threshold"), right: true, sort: (a) => a.threshold, cell: (a) => number(a.threshold) },
    { id: "since", title: t("since"), right: true, sort: (a) => a.since_ms, cell: (a) => <time title={exactTime(a.since_ms)}>{clock(a.since_ms)}</time> },
  ], [language]);
  return (
    <>
      <Card><Table label={t("alerts")} columns={columns} rows={alerts} rowKey={(a) => a.rule + "|" + a.instance} empty={t("no_alerts")} /></Card>
      <Channels />
    </>
  );
}
