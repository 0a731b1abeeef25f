// Every text of the console in both languages, and the choice of one.
import { useSyncExternalStore } from "react";

const pairs = {
  overview: ["Overview", "总览"], nodes: ["Nodes", "节点"], performance: ["Performance", "性能"], alerts: ["Alerts", "告警"],
  incidents: ["Incidents", "事件"], actions: ["Actions", "操作"], tenants: ["Tenants", "租户"], models: ["Models", "模型"],
  chat: ["Chat", "对话"], skip: ["Skip to the page", "跳到正文"], menu: ["Menu", "菜单"],
  language: ["中文", "English"], theme_auto: ["Theme: system", "主题：跟随系统"], theme_light: ["Theme: light", "主题：浅色"],
  theme_dark: ["Theme: dark", "主题：深色"], logout: ["Log out", "退出"], viewer: ["read only", "只读"],
  live: ["Live", "实时"], connecting: ["Connecting", "连接中"], lost: ["Connection lost", "连接已断开"],
  health_ok: ["All is well", "一切正常"], health_warning: ["Needs attention", "需要关注"], health_critical: ["Service is affected", "服务受影响"],
  health_unknown: ["Waiting for data", "等待数据"],
  usable_nodes: ["Usable nodes", "可用节点"], requests_s: ["Requests / s", "请求 / 秒"], tokens_s: ["Tokens / s", "词元 / 秒"],
  first_token_p99: ["First token P99", "首词元 P99"], queue: ["Waiting", "排队"], open: ["Open requests", "进行中请求"],
  kv: ["KV cache", "KV 缓存"], cache_hit: ["Cache hits", "缓存命中"], errors: ["Errors", "错误"], five_minutes: ["5 min", "5 分钟"],
  generated: ["generated", "生成"], prompt: ["prompt", "提示"], requests: ["requests", "请求"], running: ["Running", "运行"], waiting: ["Waiting", "排队"],
  c_first_token: ["Time to first token", "首词元延迟"], c_gap: ["Between two tokens", "词元间隔"], c_tokens: ["Throughput, tokens / s", "吞吐，词元 / 秒"],
  c_requests: ["Requests / s", "请求 / 秒"], c_queue: ["Requests open and waiting", "进行中与排队的请求"], c_kv: ["KV cache in use, by node", "各节点 KV 缓存使用率"],
  c_cache: ["Prefix cache hits, by node", "各节点前缀缓存命中率"], c_errors: ["Errors, time-outs, refusals", "错误、超时、拒答"],
  c_temperature: ["GPU temperature, by node", "各节点 GPU 温度"], c_gpu: ["GPU load, by node", "各节点 GPU 利用率"], c_cpu: ["CPU, by node", "各节点 CPU"],
  c_node_tokens: ["Tokens / s", "词元 / 秒"], c_node_load: ["Running and waiting", "运行与排队"],
  error: ["errors", "错误"], timeouts: ["Time-outs", "超时"], refusals: ["Refusals", "拒答"], resumes: ["Resumes", "续接"],
  window: ["Time window", "时间范围"], "15m": ["15 min", "15 分钟"], "6h": ["6 h", "6 小时"], "7d": ["7 days", "7 天"],
  min: ["min", "最小"], mean: ["mean", "平均"], max: ["max", "最大"], no_data: ["No data yet", "暂无数据"], loading: ["Loading…", "加载中…"],
  drag_zoom: ["drag to zoom, double-click to reset", "拖动放大，双击还原"],
  name: ["Name", "名称"], state: ["State", "状态"], group: ["Group", "组"], model: ["Model", "模型"], device: ["Device", "设备"], address: ["Address", "地址"],
  weights: ["Weights", "权重"], cpu: ["CPU", "CPU"], memory: ["Memory", "内存"], disk: ["Disk", "磁盘"], network: ["Network", "网络"], since: ["Since", "起始"],
  seen: ["Last seen", "最近响应"], serving: ["serving", "服务中"], standby: ["standby", "待命"], filter: ["Filter", "筛选"],
  no_gpu: ["No GPU", "无 GPU"], gpu_memory: ["Memory", "显存"], temperature: ["Temperature", "温度"], power: ["Power", "功率"], clock: ["Clock", "频率"], load: ["Load", "利用率"],
  throttled: ["throttled", "降频"], ecc: ["ECC errors", "ECC 错误"], xid: ["XID errors", "XID 错误"], limits: ["Limits in force", "当前限制"],
  ready: ["ready", "就绪"], draining: ["draining", "排空中"], held: ["held back", "已停用"], unreachable: ["unreachable", "不可达"], dead: ["dead", "已停止"],
  n_loading: ["loading", "加载中"],
  no_nodes: ["No node matches", "没有匹配的节点"], close: ["Close", "关闭"], details: ["Details", "详情"],
  firing: ["firing", "告警中"], pending: ["pending", "待确认"], inactive: ["inactive", "未触发"], resolving: ["resolving", "恢复中"],
  no_alerts: ["Nothing is pending and nothing fires.", "没有待确认或触发的告警。"], rule: ["Rule", "规则"], where: ["Where", "位置"], value: ["Value", "数值"], threshold: ["Threshold", "阈值"], level: ["Level", "级别"],
  hardware: ["hardware", "硬件"], software: ["software", "软件"], business: ["business", "业务"],
  channels: ["Notice channels", "通知渠道"], no_channels: ["No channel is configured.", "未配置通知渠道。"], kind: ["Kind", "类型"], sent: ["Sent", "已发送"], failed: ["Failed", "失败"], queued: ["Queued", "排队"], last_error: ["Last error", "最近错误"],
  test: ["Send a test", "发送测试"], test_sent: ["The test message was accepted.", "测试消息已被接收。"],
  no_incidents: ["No incident so far.", "目前没有事件。"], open_incidents: ["Open incidents", "进行中的事件"], all_incidents: ["All incidents", "全部事件"], timeline: ["Timeline", "时间线"],
  level1: ["Level 1", "一级"], level2: ["Level 2", "二级"], i_open: ["open", "进行中"], i_recovering: ["recovering", "恢复中"], i_closed: ["closed", "已结束"], lasted: ["Lasted", "持续"], started: ["Started", "开始"],
  acknowledge: ["I am on it", "我来处理"], acknowledged: ["looked after by", "处理人"], note: ["Add a note", "添加备注"], add: ["Add", "添加"], select_incident: ["Choose an incident to see its story.", "选择一个事件查看经过。"],
  detected: ["detected", "发现"], action: ["action", "操作"], undo: ["undone", "撤销"], notice: ["notice", "通知"], k_note: ["note", "备注"], recovered: ["recovered", "恢复"], closed: ["closed", "结束"], result: ["result", "结果"],
  target: ["Target", "对象"], argument: ["Argument", "参数"], dry_run: ["Rehearse", "演练"], run: ["Run…", "执行…"], confirm: ["Run it", "确认执行"], cancel: ["Cancel", "取消"], cluster: ["the cluster", "整个集群"],
  confirm_title: ["Do this?", "确认执行？"], confirm_text: ["This changes the running cluster. It is recorded under your name.", "此操作会改变运行中的集群，并以你的名义记录。"], undo_with: ["Taken back with", "可撤销："], no_undo: ["Nothing takes this back.", "无法撤销。"],
  audit: ["What was done", "操作记录"], no_audit: ["Nothing was done yet.", "暂无操作。"], who: ["Who", "执行者"], time: ["Time", "时间"], forbidden: ["forbidden by configuration", "配置禁止"], rehearsal: ["rehearsal", "演练"], ok: ["ok", "成功"], not_ok: ["failed", "失败"], no_actions: ["No action is available here.", "此处没有可用操作。"],
  no_tenants: ["No tenant has sent anything yet.", "还没有租户发送请求。"], prompt_tokens: ["Prompt tokens", "提示词元"], completion_tokens: ["Reply tokens", "回复词元"], limited: ["Limited", "被限流"], share: ["Share", "占比"], everyone: ["(without a key)", "（无密钥）"],
  no_models: ["No model is served yet.", "还没有模型在服务。"], variants: ["Variants", "权重版本"],
  ask: ["Ask something", "输入问题"], send: ["Send", "发送"], stop: ["Stop", "停止"], clear: ["New chat", "新对话"], reasoning: ["Reasoning", "思考过程"], journey: ["Journey of this stream", "流的经过"], journey_empty: ["No node has sent a token yet.", "还没有节点产出词元。"],
  tokens: ["tokens", "词元"], first_after: ["first after", "首词元"], you: ["You", "你"], assistant: ["Model", "模型"], chat_empty: ["Answers stream here. Under each one stands which node made which tokens.", "回答将在此逐字显示，下方标出各词元由哪个节点产出。"], moved: ["moved", "迁移"], temperature_t: ["Temperature", "温度"], max_tokens: ["Most tokens", "最多词元"],
  store_bad: ["Incidents are kept in memory only", "事件仅保存在内存中"], shortcuts: ["1–9 pages · / filter · Esc close", "1–9 切换页面 · / 筛选 · Esc 关闭"], ago: ["ago", "前"], more: ["Show more", "显示更多"],
};

let language = localStorage.getItem("homeport.language") || (navigator.language.startsWith("zh") ? "zh" : "en");
const listeners = new Set();
const apply = () => (document.documentElement.lang = language);
apply();

export const useLanguage = () => useSyncExternalStore((f) => (listeners.add(f), () => listeners.delete(f)), () => language);
export const currentLanguage = () => language;
export function setLanguage(next) {
  language = next;
  localStorage.setItem("homeport.language", next);
  apply();
  listeners.forEach((f) => f());
}
export function t(key) {
  const pair = pairs[key];
  return pair ? pair[language === "zh" ? 1 : 0] : key;
}
/// Of a thing that the server names in both languages.
export const named = (thing) => (language === "zh" ? thing.zh || thing.en : thing.en) || "";
