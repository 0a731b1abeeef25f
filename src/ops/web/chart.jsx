// A chart over time: dygraphs draws, this fetches, keeps the colours of the theme and writes the legend.
import React, { useEffect, useRef, useState } from "react";
import Dygraph from "dygraphs";
import { currentLanguage, t, useLanguage } from "./i18n.js";
import { get } from "./store.js";
import { Card, turn, useFetched } from "./parts.jsx";
import { useThemeName } from "./theme.js";

// The legend is written below in React: the library's own one would set inline styles, which the policy forbids.
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

const refreshMs = { "15m": 5000, "6h": 60000, "7d": 300000 };
/// The colours of a theme, read once: asking the browser for a style makes it compute all of them.
const themes = new Map();
function shades(theme) {
  if (!themes.has(theme)) {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    themes.set(theme, { series: [1, 2, 3, 4, 5, 6, 7, 8].map((i) => value(`--series-${i}`)), idle: value("--idle"), grid: value("--grid") });
  }
  return themes.get(theme);
}
async function load(path) {
  const data = await get(path);
  await turn(); // a page has many charts, and drawing one takes about a frame
  return data;
}

/// History as rows for dygraphs: [Date, value…]
function rowsOf(table) {
  const columns = table.columns;
  const length = columns.length ? columns[0].values.length : 0;
  const rows = new Array(length);
  for (let i = 0; i < length; ++i) {
    const row = [new Date(table.from_ms + i * table.step_ms)];
    for (const column of columns) row.push(column.values[i]);
    rows[i] = row;
  }
  return rows;
}

function timeLabel(date, granularity, window) {
  const locale = currentLanguage() === "zh" ? "zh-CN" : "en-GB";
  return date.toLocaleString(locale, window === "7d" ? { weekday: "short", hour: "2-digit" } : { hour: "2-digit", minute: "2-digit" });
}

function Legend({ labels, colors, values, format }) {
  return (
    <ul className="legend">
      {labels.map((label, i) => (
        <li key={label}><i aria-hidden="true" style={{ background: colors[i] }} />{label}<b>{values[i] === undefined ? "" : format(values[i])}</b></li>
      ))}
    </ul>
  );
}

/// lanes: [["ttft:p99", "P99"], …], or nodes: "kv_usage:mean" for a picture of all nodes.
export function Chart({ title, lanes, nodes, window, format, fill, top = 5, highest, height = 150 }) {
  const language = useLanguage(), theme = useThemeName();
  const place = useRef(null), graph = useRef(null);
  const [point, setPoint] = useState(null);
  const points = window === "15m" ? 180 : 336;
  const query = nodes ? `nodes=${encodeURIComponent(nodes)}&top=${top}` : `lanes=${encodeURIComponent(lanes.map((l) => l[0]).join(","))}`;
  const { data, error } = useFetched(() => load(`history?window=${window}&points=${points}&${query}`), [window, query], refreshMs[window]);

  const columns = (data && data.columns) || [];
  const known = columns.some((c) => c.values.some((v) => v !== null));
  const labels = columns.map((c) => (nodes ? (["min", "mean", "max"].includes(c.name) ? t(c.name) : c.name) : (lanes.find((l) => l[0] === c.name) || [0, c.name])[1]));
  const { series: colors, idle, grid } = shades(theme);
  // Of many nodes the band is quiet, its mean is strong, and the highest ones are thin lines.
  const band = (c) => nodes && (c.name === "min" || c.name === "max");
  const used = columns.map((c, i) => (band(c) ? idle : nodes && i > 1 ? colors[(i - 2) % colors.length] : colors[i % colors.length]));
  if (nodes && columns.length > 1) used[1] = colors[0];
  const widths = {};
  columns.forEach((c, i) => (widths[`${i} ${labels[i]}`] = !nodes ? {} : band(c) ? { strokeWidth: 1, strokePattern: [3, 3] } : i === 1 ? { strokeWidth: 2.2 } : { strokeWidth: 0.9 }));

  useEffect(() => {
    if (!known) return;
    const options = {
      file: rowsOf(data), labels: ["time", ...labels.map((l, i) => `${i} ${l}`)], colors: used, series: widths,
      strokeWidth: 1.4, fillGraph: !!fill, fillAlpha: 0.14, drawPoints: false, legend: "never", animatedZooms: false,
      gridLineColor: grid, axisLineColor: grid, axisLabelFontSize: 11, highlightCircleSize: 3,
      includeZero: true, valueRange: highest ? [0, highest] : undefined, xAxisHeight: 18, rightGap: 8,
      axes: {
        x: { axisLabelFormatter: (date, granularity) => timeLabel(date, granularity, window), axisLabelWidth: window === "7d" ? 56 : 46, pixelsPerLabel: 70 },
        y: { axisLabelFormatter: (v) => format(v), axisLabelWidth: 52, pixelsPerLabel: 34 },
      },
      highlightCallback: (_, x, points) => setPoint({ x, values: columns.map((c, i) => (points.find((p) => p.name.startsWith(`${i} `)) || {}).yval) }),
      unhighlightCallback: () => setPoint(null),
    };
    if (graph.current) graph.current.updateOptions(options);
    else {
      const { file, ...rest } = options;
      graph.current = new Dygraph(place.current, file, rest);
    }
    place.current.dataset.drawn = window;
  }, [data, language, theme]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => graph.current && graph.current.resize());
    watcher.observe(place.current);
    return () => {
      watcher.disconnect();
      if (graph.current) graph.current.destroy();
      graph.current = null;
    };
  }, []);
  useEffect(() => {
    if (graph.current && graph.current.isZoomed()) graph.current.resetZoom();
  }, [window, query]);

  const values = point ? point.values : columns.map((c) => c.values[c.values.length - 1]);
  const summary = `${title}: ${labels.map((l, i) => `${l} ${format(values[i])}`).join(", ")}`;
  return (
    <Card title={title} aside={point && <time>{new Date(point.x).toLocaleString(language === "zh" ? "zh-CN" : "en-GB")}</time>} className="chart">
      <div className="plot" style={{ height }}>
        <div ref={place} className="canvas" role="img" aria-label={summary} title={known ? t("drag_zoom") : undefined} />
        {!known && <p className="empty">{error || (data ? t("no_data") : t("loading"))}</p>}
      </div>
      <Legend labels={known ? labels : []} colors={used} values={values} format={format} />
    </Card>
  );
}
