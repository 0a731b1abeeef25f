// A chat with a model of the cluster, and under each answer which node made which of its tokens.
import React, { useEffect, useRef, useState } from "react";
import { get, send, useSection, useSession } from "./store.js";
import { t } from "./i18n.js";
import { seconds } from "./format.js";
import { Card, Empty } from "./parts.jsx";

/// Events of a stream of bytes, as they come.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const data = rest.slice(0, end).split("\n").filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trimStart()).join("\n");
      rest = rest.slice(end + 2);
      if (data) yield data;
    }
  }
}

function Journey({ legs }) {
  if (!legs || !legs.length) return null;
  const total = legs.reduce((sum, leg) => sum + leg.tokens, 0) || 1;
  const names = [...new Set(legs.map((l) => l.node))];
  const series = (leg) => `s${(names.indexOf(leg.node) % 8) + 1}`;
  return (
    <div className="journey" aria-label={t("journey")} role="group">
      <div className="strip" aria-hidden="true">{legs.map((leg, i) => <span key={i} className={series(leg)} style={{ flexGrow: Math.max(leg.tokens, total * 0.02) }} />)}</div>
      <ol>{legs.map((leg, i) => <li key={i}><i className={series(leg)} aria-hidden="true" />{i > 0 && <small>{t("moved")} → </small>}<b>{leg.node}</b> {leg.tokens} {t("tokens")} <small>{leg.from_token}–{leg.from_token + leg.tokens}</small></li>)}</ol>
    </div>
  );
}

function Message({ message }) {
  return (
    <article className={"message " + message.role}>
      <h3>{t(message.role === "user" ? "you" : "assistant")}{message.stats && <small>{message.stats}</small>}</h3>
      {message.reasoning && <details open={!message.content && message.busy}><summary>{t("reasoning")}</summary><div className="text">{message.reasoning}</div></details>}
      <div className="text">{message.content}{message.busy && <span className="caret" aria-hidden="true" />}</div>
      {message.error && <p className="bad" role="alert">{message.error}</p>}
      <Journey legs={message.legs} />
    </article>
  );
}

export function Chat({ rest }) {
  const models = [...useSection("models").keys()];
  const session = useSession();
  const [model, setModel] = useState(rest[0] || ""), [text, setText] = useState("");
  const [messages, setMessages] = useState([]), [abort, setAbort] = useState(null);
  const [temperature, setTemperature] = useState("0.7"), [maxTokens, setMaxTokens] = useState("512");
  const end = useRef(null);
  const change = (f) => setMessages((all) => [...all.slice(0, -1), f(all[all.length - 1])]);
  const chosen = model || models[0] || "";
  useEffect(() => {
    if (end.current) end.current.scrollIntoView({ block: "nearest" });
  }, [messages]);

  const ask = async () => {
    const question = { role: "user", content: text };
    const history = [...messages.filter((m) => !m.error), question].map(({ role, content }) => ({ role, content }));
    setMessages([...messages, question, { role: "assistant", content: "", reasoning: "", busy: true }]);
    setText("");
    const controller = new AbortController();
    setAbort(controller);
    const began = performance.now();
    let first = 0, tokens = 0, stream = null, timer = null;
    const look = async () => {
      if (!stream) return;
      try {
        const journey = await get("journey/" + stream);
        change((m) => ({ ...m, legs: journey.legs }));
      } catch {
        // not every stream has one
      }
    };
    try {
      const answer = await send("chat", { model: chosen, messages: history, stream: true, temperature: Number(temperature), max_tokens: Number(maxTokens), stream_options: { include_usage: true } }, controller.signal);
      if (!answer.ok) {
        const body = await answer.json();
        throw new Error(typeof body.error === "string" ? body.error : body.error.message);
      }
      stream = answer.headers.get("Homeport-Stream");
      timer = setInterval(look, 1000);
      for await (const data of eventsOf(answer.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        if (chunk.usage) tokens = chunk.usage.completion_tokens;
        const delta = chunk.choices && chunk.choices[0] && chunk.choices[0].delta;
        if (!delta || !(delta.content || delta.reasoning_content)) continue;
        if (!first) first = performance.now();
        change((m) => ({ ...m, content: m.content + (delta.content || ""), reasoning: m.reasoning + (delta.reasoning_content || "") }));
      }
      const total = (performance.now() - first) / 1000;
      const stats = first ? `${tokens} ${t("tokens")} · ${t("first_after")} ${seconds((first - began) / 1000)} · ${(tokens / Math.max(total, 0.001)).toFixed(1)} / s` : "";
      change((m) => ({ ...m, stats }));
    } catch (error) {
      if (error.name !== "AbortError") change((m) => ({ ...m, error: error.message }));
    }
    clearInterval(timer);
    await look();
    change((m) => ({ ...m, busy: false }));
    setAbort(null);
  };
  return (
    <Card className="chat">
      <div className="tools">
        <label>{t("model")} <select value={chosen} onChange={(e) => setModel(e.target.value)}>{models.map((m) => <option key={m}>{m}</option>)}</select></label>
        <label>{t("temperature_t")} <input type="number" min="0" max="2" step="0.1" value={temperature} onChange={(e) => setTemperature(e.target.value)} /></label>
        <label>{t("max_tokens")} <input type="number" min="1" max="100000" value={maxTokens} onChange={(e) => setMaxTokens(e.target.value)} /></label>
        <span className="grow" />
        <button type="button" onClick={() => setMessages([])} disabled={!!abort || !messages.length}>{t("clear")}</button>
      </div>
      <div className="messages" aria-live="polite">
        {!messages.length && <Empty>{t("chat_empty")}</Empty>}
        {messages.map((m, i) => <Message key={i} message={m} />)}
        <div ref={end} />
      </div>
      <form className="ask" onSubmit={(e) => (e.preventDefault(), !abort && text.trim() && ask())}>
        <textarea rows="2" aria-label={t("ask")} placeholder={t("ask")} value={text} disabled={!session.may_act} onChange={(e) => setText(e.target.value)}
          onKeyDown={(e) => e.key === "Enter" && !e.shiftKey && !e.nativeEvent.isComposing && (e.preventDefault(), e.currentTarget.form.requestSubmit())} />
        {abort ? <button type="button" className="danger" onClick={() => abort.abort()}>{t("stop")}</button>
          : <button type="submit" className="primary" disabled={!text.trim() || !chosen || !session.may_act}>{t("send")}</button>}
      </form>
    </Card>
  );
}
