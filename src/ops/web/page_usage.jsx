import React from "react";
import { useSection } from "./store.js";
import { t } from "./i18n.js";
import { count, number } from "./format.js";
import { Bar, Card, Pill, Table } from "./parts.jsx";

export function Tenants() {
  const tenants = [...useSection("tenants").values()];
  const total = tenants.reduce((sum, x) => sum + x.prompt_tokens + x.completion_tokens, 0);
  const share = (x) => (total > 0 ? (x.prompt_tokens + x.completion_tokens) / total : null);
  const columns = [
    { id: "name", title: t("name"), sort: (x) => x.name, cell: (x) => <span className="strong">{x.name || t("everyone")}</span> },
    ...[["requests", "requests_total"], ["prompt_tokens"], ["completion_tokens"], ["limited"], ["timeouts"], ["refusals"]].map(([id]) => (
      { id, title: t(id), right: true, sort: (x) => x[id], cell: (x) => <span title={count(x[id])}>{number(x[id])}</span> })),
    { id: "share", title: t("share"), sort: share, cell: (x) => <Bar value={share(x)} warn={2} bad={2} /> },
  ];
  return <Card><Table label={t("tenants")} columns={columns} rows={tenants} rowKey={(x) => x.name} empty={t("no_tenants")} initial={{ id: "share", down: true }} /></Card>;
}

export function Models() {
  const models = [...useSection("models").values()];
  const columns = [
    { id: "name", title: t("model"), sort: (m) => m.name, cell: (m) => <span className="strong">{m.name}</span> },
    { id: "nodes", title: t("usable_nodes"), sort: (m) => m.usable_nodes, cell: (m) => <Pill tone={m.usable_nodes === 0 ? "bad" : m.usable_nodes < m.nodes ? "warn" : "ok"}>{m.usable_nodes} / {m.nodes}</Pill> },
    { id: "weights", title: t("variants"), cell: (m) => m.weights.join(", ") || "–" },
    { id: "chat", title: "", cell: (m) => <a href={"#/chat/" + encodeURIComponent(m.name)}>{t("chat")}</a> },
  ];
  return <Card><Table label={t("models")} columns={columns} rows={models} rowKey={(m) => m.name} empty={t("no_models")} /></Card>;
}
