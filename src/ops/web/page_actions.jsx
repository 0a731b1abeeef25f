import React, { useState } from "react";
import { get, post, useSection, useSession, useValue } from "./store.js";
import { named, t } from "./i18n.js";
import { clock, exactTime } from "./format.js";
import { Card, Dialog, Empty, Pill, Table, useFetched } from "./parts.jsx";

/// Asks, runs, shows what came of it.
function Confirm({ action, target, argument, onDone }) {
  const [state, setState] = useState({ busy: false, text: "", ok: true, over: false });
  const go = async (dryRun) => {
    setState({ busy: true, text: "", ok: true, over: false });
    try {
      const outcome = await post("actions", { action: action.name, target, argument, dry_run: dryRun });
      setState({ busy: false, text: outcome.text, ok: outcome.ok, over: !dryRun });
    } catch (error) {
      setState({ busy: false, text: error.message, ok: false, over: false });
    }
  };
  return (
    <Dialog title={t("confirm_title")} onClose={onDone}>
      <p className="question"><b>{named(action)}</b> · {target || t("cluster")}{argument && <code>{argument}</code>}</p>
      <p>{t("confirm_text")} {action.undo ? <>{t("undo_with")} <code>{action.undo}</code></> : t("no_undo")}</p>
      <p role="status" className={"outcome " + (state.ok ? "" : "bad")}>{state.busy ? "…" : state.text}</p>
      <div className="tools end">
        <button type="button" onClick={onDone}>{t(state.over ? "close" : "cancel")}</button>
        {!state.over && <button type="button" disabled={state.busy} onClick={() => go(true)}>{t("dry_run")}</button>}
        {!state.over && <button type="button" className={action.dangerous ? "danger" : "primary"} disabled={state.busy} onClick={() => go(false)}>{t("confirm")}</button>}
      </div>
    </Dialog>
  );
}

const useActions = () => useValue("actions") || [];

/// What can be done with one node or group, as buttons.
export function ActionButtons({ kind, target }) {
  const actions = useActions().filter((a) => a.target === kind && a.allowed && !a.argument);
  const session = useSession();
  const [asked, ask] = useState(null);
  if (!session.may_act) return null;
  return (
    <>
      {actions.map((a) => <button key={a.name} type="button" className={a.dangerous ? "danger" : ""} onClick={() => ask(a)}>{named(a)}</button>)}
      {asked && <Confirm action={asked} target={target} argument="" onDone={() => ask(null)} />}
    </>
  );
}

function ActionRow({ action }) {
  const nodes = useSection("nodes"), session = useSession();
  const [target, setTarget] = useState(""), [argument, setArgument] = useState(""), [asking, setAsking] = useState(false);
  const targets = action.target === "node" ? [...nodes.keys()] : action.target === "group" ? [...new Set([...nodes.values()].map((n) => String(n.group)))] : null;
  const chosen = targets ? target || targets[0] || "" : "";
  return (
    <div className="actionrow">
      <div className="grow"><b>{named(action)}</b> <small><code>{action.name}</code>{!action.allowed && ` · ${t("forbidden")}`}</small></div>
      {targets && <select aria-label={`${named(action)}: ${t("target")}`} value={chosen} onChange={(e) => setTarget(e.target.value)}>{targets.map((x) => <option key={x}>{x}</option>)}</select>}
      {action.argument && <input aria-label={action.argument} placeholder={action.argument} value={argument} onChange={(e) => setArgument(e.target.value)} />}
      <button type="button" className={action.dangerous ? "danger" : ""} disabled={!action.allowed || !session.may_act || (targets && !chosen)} onClick={() => setAsking(true)}>{t("run")}</button>
      {asking && <Confirm action={action} target={chosen} argument={argument} onDone={() => setAsking(false)} />}
    </div>
  );
}

export function Actions() {
  const actions = useActions();
  const { data } = useFetched(() => get("list/audit?limit=100"), [], 5000);
  const columns = [
    { id: "time", title: t("time"), cell: (a) => <time title={exactTime(a.at_ms)}>{clock(a.at_ms)}</time> },
    { id: "who", title: t("who"), cell: (a) => a.who },
    { id: "action", title: t("action"), cell: (a) => <span><code>{a.action}</code> {a.target} {a.argument}</span> },
    { id: "result", title: t("result"), cell: (a) => <span><Pill tone={a.ok ? "ok" : "bad"}>{t(a.ok ? "ok" : "not_ok")}</Pill> {a.dry_run && <small>{t("rehearsal")}</small>}</span> },
    { id: "text", title: t("details"), cell: (a) => <span className="clip">{a.text}</span> },
  ];
  return (
    <>
      <Card title={t("actions")}>{actions.length ? actions.map((a) => <ActionRow key={a.name} action={a} />) : <Empty>{t("no_actions")}</Empty>}</Card>
      <Card title={t("audit")}><Table label={t("audit")} columns={columns} rows={(data && data.audit) || []} rowKey={(a) => `${a.at_ms}${a.who}${a.action}${a.target}`} empty={t("no_audit")} /></Card>
    </>
  );
}
