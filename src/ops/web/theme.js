// The theme: the system's, or a choice that this browser remembers.
import { useSyncExternalStore } from "react";

const themes = ["auto", "light", "dark"];
const listeners = new Set();
const subscribe = (f) => (listeners.add(f), () => listeners.delete(f));
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = localStorage.getItem("homeport.theme") || "auto";

function apply() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  listeners.forEach((f) => f());
}
apply();
system.addEventListener("change", () => listeners.forEach((f) => f()));

export const useTheme = () => useSyncExternalStore(subscribe, () => theme);
/// What is shown: changes when canvases must be drawn in other colours.
export const useThemeName = () => useSyncExternalStore(subscribe, () => (theme === "auto" ? (system.matches ? "dark" : "light") : theme));
export function nextTheme() {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem("homeport.theme", theme);
  apply();
}
