// The login page: sends the key once, over the connection it came by; the browser keeps only the session's cookie.
const texts = {
  zh: { label: "控制台密钥", submit: "登录", wrong: "密钥不正确", many: "尝试次数过多，请一分钟后再试", broken: "无法连接服务器" },
  en: { label: "Console key", submit: "Log in", wrong: "This key is not known here", many: "Too many attempts; wait a minute", broken: "The server cannot be reached" },
};
const saved = localStorage.getItem("homeport.language");
const language = saved || (navigator.language.startsWith("zh") ? "zh" : "en");
const text = texts[language] || texts.en;
document.documentElement.lang = language;
const theme = localStorage.getItem("homeport.theme");
if (theme && theme !== "auto") document.documentElement.dataset.theme = theme;
const by = (id) => document.getElementById(id);
by("label").textContent = text.label;
by("submit").textContent = text.submit;

by("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  by("submit").disabled = true;
  by("message").textContent = "";
  try {
    const session = await (await fetch("api/session")).json();
    const answer = await fetch("api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": session.csrf },
      body: JSON.stringify({ key: by("key").value }),
    });
    if (answer.ok) return location.reload();
    by("message").textContent = answer.status === 401 ? text.wrong : answer.status === 429 ? text.many : (await answer.json()).error;
  } catch {
    by("message").textContent = text.broken;
  }
  by("submit").disabled = false;
  by("key").select();
});
