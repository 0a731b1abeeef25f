// Figures as people read them. null is "not known" and never 0.
import { currentLanguage, t } from "./i18n.js";

const locale = () => (currentLanguage() === "zh" ? "zh-CN" : "en-GB");
const none = "–";
const known = (v) => v !== null && v !== undefined && Number.isFinite(v);

export function number(v, digits = 3) {
  if (!known(v)) return none;
  const size = Math.abs(v);
  if (size >= 1e9) return (v / 1e9).toPrecision(digits) + " G";
  if (size >= 1e6) return (v / 1e6).toPrecision(digits) + " M";
  if (size >= 1e4) return (v / 1e3).toPrecision(digits) + " k";
  if (size >= 1000) return Math.round(v).toLocaleString(locale());
  return String(Number(v.toPrecision(digits)));
}
export const count = (v) => (known(v) ? Math.round(v).toLocaleString(locale()) : none);
export function percent(v) {
  if (!known(v)) return none;
  const p = v * 100;
  return (p === 0 || p >= 10 ? p.toFixed(0) : p >= 1 ? p.toFixed(1) : p.toPrecision(1)) + " %";
}
export function seconds(v) {
  if (!known(v)) return none;
  if (v === 0) return "0 s";
  if (v < 0.001) return (v * 1e6).toFixed(0) + " µs";
  if (v < 1) return Number((v * 1000).toPrecision(3)) + " ms";
  if (v < 120) return Number(v.toPrecision(3)) + " s";
  if (v < 7200) return Math.round(v / 60) + " min";
  if (v < 172800) return Number((v / 3600).toPrecision(2)) + " h";
  return Math.round(v / 86400) + " d";
}
export function bytes(v) {
  if (!known(v)) return none;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; v >= 1000 && i < units.length - 1; ++i) v /= 1024;
  return Number(v.toPrecision(3)) + " " + units[i];
}
export const degrees = (v) => (known(v) ? Math.round(v) + " °C" : none);
export const ofBytes = (used, total) => (known(used) && known(total) ? `${bytes(used)} / ${bytes(total)}` : bytes(used));
export const ratio = (used, total) => (known(used) && known(total) && total > 0 ? used / total : null);

export function clock(ms) {
  if (!ms) return none;
  const date = new Date(ms);
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString(locale(), today ? { hour: "2-digit", minute: "2-digit", second: "2-digit" }
    : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}
export const exactTime = (ms) => (ms ? new Date(ms).toISOString() : "");
export const ago = (ms, now = Date.now()) => {
  if (!ms) return none;
  const text = seconds(Math.max(0, Math.round((now - ms) / 1000)) || 1);
  return currentLanguage() === "zh" ? text + t("ago") : text + " " + t("ago");
};
