// Small pieces that every page is made of.
import React, { useEffect, useRef, useState } from "react";
import { t } from "./i18n.js";
import { percent } from "./format.js";

const conditionTone = { ready: "ok", loading: "info", draining: "warn", held: "warn", unreachable: "bad", dead: "bad" };
export const toneOfCondition = (condition) => conditionTone[condition] || "idle";

export function Pill({ tone, children, title }) {
  return <span className={`pill ${tone}`} title={title}><i aria-hidden="true" />{children}</span>;
}

export function Condition({ node }) {
  const name = node.condition === "loading" ? t("n_loading") : t(node.condition);
  return <Pill tone={toneOfCondition(node.condition)}>{name}</Pill>;
}

export function Bar({ value, warn = 0.8, bad = 0.9 }) {
  const known = value !== null && value !== undefined;
  const width = known ? Math.max(0, Math.min(1, value)) * 100 : 0;
  const tone = !known ? "idle" : value >= bad ? "bad" : value >= warn ? "warn" : "ok";
  return (
    <span className="bar">
      <span className="track" aria-hidden="true"><span className={tone} style={{ width: width + "%" }} /></span>
      <span className="figure">{percent(value)}</span>
    </span>
  );
}

export function Card({ title, aside, children, className = "" }) {
  return (
    <section className={"card " + className}>
      {title && <header><h2>{title}</h2>{aside && <div className="aside">{aside}</div>}</header>}
      {children}
    </section>
  );
}

export const Empty = ({ children }) => <p className="empty">{children}</p>;

export function Choice({ label, value, options, onChange }) {
  return (
    <div className="choice" role="group" aria-label={label}>
      {options.map(([id, text]) => (
        <button key={id} type="button" aria-pressed={id === value} onClick={() => onChange(id)}>{text}</button>
      ))}
    </div>
  );
}

/// A modal dialog of the browser: focus and Esc are its business.
export function Dialog({ title, onClose, children, wide }) {
  const ref = useRef(null);
  useEffect(() => {
    ref.current.showModal();
  }, []);
  return (
    <dialog ref={ref} className={wide ? "wide" : ""} aria-label={title} onCancel={onClose} onClose={onClose}
      onClick={(event) => event.target === ref.current && onClose()}>
      <div className="inside">
        <header><h2>{title}</h2><button type="button" className="plain" aria-label={t("close")} onClick={onClose}>✕</button></header>
        {children}
      </div>
    </dialog>
  );
}

const rowsAtOnce = 50, rowsAFrame = 20; // a page of rows; what fits a screen and is drawn at once, the rest follows

const frames = [];
function nextFrame() {
  requestAnimationFrame(() => setTimeout(() => {
    frames.shift()();
    if (frames.length) nextFrame();
  }));
}
/// Resolves after a paint, one caller a frame: whoever draws much takes turns, and no input waits for all of it.
export const turn = () => new Promise((resolve) => {
  frames.push(resolve);
  if (frames.length === 1) nextFrame();
});

/// How many of `limit` rows to draw now; grows from frame to frame.
function useGrowing(limit) {
  const [drawn, setDrawn] = useState(rowsAFrame);
  useEffect(() => {
    if (drawn >= limit) return setDrawn(Math.max(limit, rowsAFrame));
    let over = false;
    turn().then(() => over || setDrawn(drawn + rowsAFrame));
    return () => {
      over = true;
    };
  }, [drawn, limit]);
  return [Math.min(drawn, limit), () => setDrawn(rowsAFrame)];
}

/// A table that sorts by its columns and becomes cards on a phone. columns: {id, title, cell(row), sort?(row), right?}
export function Table({ columns, rows, rowKey, empty, onRow, label, initial }) {
  const [sort, setSort] = useState(initial || { id: null, down: false });
  const [limit, setLimit] = useState(rowsAtOnce);
  const [drawn, startAnew] = useGrowing(Math.min(limit, rows.length));
  const column = columns.find((c) => c.id === sort.id);
  let shown = rows;
  if (column && column.sort) {
    const value = (row) => column.sort(row) ?? -Infinity;
    shown = [...rows].sort((a, b) => {
      const x = value(a), y = value(b);
      const order = typeof x === "string" && typeof y === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x < y ? -1 : x > y ? 1 : 0;
      return sort.down ? -order : order;
    });
  }
  if (!rows.length) return <Empty>{empty}</Empty>;
  return (
    <div className="scroll">
      <table aria-label={label}>
        <thead>
          <tr>
            {columns.map((c) => (
              <th key={c.id} className={c.right ? "right" : ""} aria-sort={sort.id === c.id ? (sort.down ? "descending" : "ascending") : undefined}>
                {c.sort ? (
                  <button type="button" onClick={() => (setSort({ id: c.id, down: sort.id === c.id ? !sort.down : !!c.right }), setLimit(rowsAtOnce), startAnew())}>
                    {c.title}<span aria-hidden="true">{sort.id === c.id ? (sort.down ? " ↓" : " ↑") : ""}</span>
                  </button>
                ) : c.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.slice(0, drawn).map((row) => <Row key={rowKey(row)} row={row} columns={columns} onRow={onRow} />)}
        </tbody>
      </table>
      {shown.length > limit && <button type="button" className="more" onClick={() => setLimit(limit + rowsAtOnce)}>{t("more")} ({shown.length - limit})</button>}
    </div>
  );
}

const Row = React.memo(
  function Row({ row, columns, onRow }) {
    return (
      <tr className={onRow ? "clickable" : ""} onClick={onRow && ((event) => !event.target.closest("button,a") && onRow(row))}>
        {columns.map((c) => (
          <td key={c.id} className={c.right ? "right" : ""} data-label={c.title}>{c.cell(row)}</td>
        ))}
      </tr>
    );
  },
  (a, b) => a.row === b.row && a.columns === b.columns && a.onRow === b.onRow,
);

export function useFetched(load, dependencies, everyMs) {
  const [state, setState] = useState({ data: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    let over = false;
    const go = async () => {
      try {
        const data = await load();
        if (!over) setState({ data, error: null });
      } catch (error) {
        if (!over) setState((s) => ({ ...s, error: error.message }));
      }
    };
    again.current = go;
    go();
    const timer = everyMs && setInterval(() => document.hidden || go(), everyMs);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, dependencies);
  return { ...state, again: () => again.current() };
}
