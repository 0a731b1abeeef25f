// The table of every configuration key. Defaults and ranges live here and nowhere else.
#include <array>

#include "base/config.h"

namespace hp {
namespace {

constexpr auto kBoolean = ConfigType::boolean;
constexpr auto kInteger = ConfigType::integer;
constexpr auto kText = ConfigType::text;

constexpr std::array kKeys{
    ConfigKey{"server.host", "host", kText, "127.0.0.1", "", "Address to listen on, or unix:/path/to.sock."},
    ConfigKey{"server.port", "port", kInteger, "8000", "", "TCP port to listen on; 0 takes any free one.", 0, 65535},
    ConfigKey{"server.threads", "http-threads", kInteger, "1", "threads", "Event loops for HTTP.", 1, 64},
    ConfigKey{"server.max_connections", "max-connections", kInteger, "4096", "", "Open client connections at once.", 1,
              1000000},
    ConfigKey{"server.max_body_bytes", "max-body-bytes", kInteger, "33554432", "bytes",
              "Largest request body; larger ones are answered with 413.", 1024, 1073741824},
    ConfigKey{"server.header_timeout_ms", "header-timeout-ms", kInteger, "10000", "ms",
              "Time a client has to send its request headers.", 1, 3600000},
    ConfigKey{"server.body_timeout_ms", "body-timeout-ms", kInteger, "60000", "ms",
              "Time a client has to send its request body.", 1, 3600000},
    ConfigKey{"server.idle_timeout_ms", "idle-timeout-ms", kInteger, "120000", "ms",
              "How long a connection may stay idle between requests.", 1, 86400000},
    ConfigKey{"server.write_timeout_ms", "write-timeout-ms", kInteger, "60000", "ms",
              "A client that takes no byte for this long is cut.", 1, 3600000},
    ConfigKey{"server.request_timeout_ms", "request-timeout-ms", kInteger, "0", "ms",
              "A request that takes longer ends; 0 sets no limit.", 0, 86400000},
    ConfigKey{"server.drain_ms", "drain-ms", kInteger, "30000", "ms",
              "Time that requests in progress have to finish after SIGTERM.", 0, 86400000},
    ConfigKey{"server.drain_grace_ms", "drain-grace-ms", kInteger, "0", "ms",
              "After SIGTERM, take new requests for so long (load balancers lag) while /ready says no.", 0, 3600000},
    ConfigKey{"server.api_keys_file", "api-keys-file", kText, "", "",
              "File with one API key per line; empty leaves the server open to all who reach it."},
    ConfigKey{"server.tls_cert_file", "tls-cert", kText, "", "",
              "PEM file with the server's certificate and its chain; empty serves plain HTTP. Read again on SIGHUP."},
    ConfigKey{"server.tls_key_file", "tls-key", kText, "", "", "PEM file with the certificate's private key."},
    ConfigKey{"server.admin_host", "admin-host", kText, "", "",
              "Address of the admin routes: loopback or unix:/path; empty turns them off."},
    ConfigKey{"server.admin_port", "admin-port", kInteger, "0", "", "Port of the admin routes; 0 takes any free one.",
              0, 65535},
    ConfigKey{"server.journal", "journal", kBoolean, "false", "",
              "Honour the gateway's journal headers; only behind a gateway, on loopback or a Unix socket."},
    ConfigKey{"model.path", "model", kText, "", "", "Model to serve: a GGUF file or a directory with safetensors."},
    ConfigKey{"model.name", "model-name", kText, "", "",
              "Names of the model in the API, separated by commas; empty takes the file's name."},
    ConfigKey{"model.any_name", "any-model-name", kBoolean, "false", "", "Answer requests for any model name."},
    ConfigKey{"engine.threads", "threads", kInteger, "0", "threads", "Compute threads; 0 takes one per core.", 0, 1024},
    ConfigKey{"engine.device", "device", kText, "auto", "",
              "cpu, cuda, cuda:N, or auto: a GPU that can run the model, else the CPU."},
    ConfigKey{"engine.gpu_weights", "gpu-weights", kText, "bf16", "", "Weights on a GPU: bf16 or fp8."},
    ConfigKey{"engine.isa", "isa", kText, "auto", "", "Kernels: auto, ref, avx2, avx512 or amx."},
    ConfigKey{"engine.kv_dtype", "kv-dtype", kText, "auto", "",
              "Element type of the KV cache: auto, f32, f16 or bf16."},
    ConfigKey{"engine.kv_mib", "kv-mib", kInteger, "0", "MiB",
              "Memory for the KV cache; 0 takes 512, on a GPU what is free.", 0, 16777216},
    ConfigKey{"engine.context", "context", kInteger, "0", "tokens",
              "Most tokens of prompt and answer; 0 takes the model's own limit.", 0, 16777216},
    ConfigKey{"engine.max_step_tokens", "max-step-tokens", kInteger, "512", "tokens",
              "Prompt and reply tokens of one step together.", 1, 65536},
    ConfigKey{"engine.max_running", "max-running", kInteger, "64", "sequences", "Sequences generating at once.", 1,
              65536},
    ConfigKey{"engine.max_waiting", "max-waiting", kInteger, "1024", "sequences",
              "Sequences waiting for their turn; further requests are turned away.", 0, 1000000},
    ConfigKey{"engine.draft_tokens", "draft-tokens", kInteger, "0", "tokens",
              "Speculation: tokens guessed ahead per sequence; 0 is off. Answers do not depend on it.", 0, 32},
    ConfigKey{"engine.prefix_cache", "prefix-cache", kBoolean, "true", "", "Reuse the work done for common prefixes."},
    ConfigKey{"fleet.nodes", "nodes", kInteger, "0", "processes",
              "Node processes behind a gateway in `serve`; 0 serves in one process without a gateway.", 0, 64},
    ConfigKey{"gateway.nodes", "node", kText, "", "",
              "Nodes behind the gateway, separated by commas: [name=][https://]host:port, unix:/path or dns:name:port, "
              "each with "
              ";priority=N;capacity=X;concurrent=N;kind=homeport|openai;key=... after it."},
    ConfigKey{"gateway.nodes_file", "nodes-file", kText, "", "",
              "File with one node per line, read again on SIGHUP and when it changes."},
    ConfigKey{"gateway.tls_ca_file", "tls-ca", kText, "", "",
              "PEM file with the authorities that https:// nodes are verified against; empty takes the system's."},
    ConfigKey{"gateway.tenants_file", "tenants-file", kText, "", "",
              "TOML file with [[tenant]] tables: name, keys or key_sha256, requests_per_minute, tokens_per_minute, "
              "concurrent, priority. Read again on SIGHUP."},
    ConfigKey{"gateway.policy", "policy", kText, "prefix", "", "prefix, least-tokens, session or round-robin."},
    ConfigKey{"gateway.queue_timeout_ms", "queue-timeout-ms", kInteger, "10000", "ms",
              "How long a request waits for a node before it is answered 503.", 0, 3600000},
    ConfigKey{"gateway.max_waiting", "gateway-max-waiting", kInteger, "4096", "requests",
              "Requests that may wait for their turn at a node; further ones are answered 503.", 0, 1000000},
    ConfigKey{"gateway.resume_timeout_ms", "resume-timeout-ms", kInteger, "120000", "ms",
              "How long a started stream waits for a node that continues it.", 0, 86400000},
    ConfigKey{"gateway.first_token_timeout_ms", "first-token-timeout-ms", kInteger, "600000", "ms",
              "A node without any sign of progress for so long is given up.", 1, 86400000},
    ConfigKey{"gateway.probe_interval_ms", "probe-interval-ms", kInteger, "500", "ms",
              "Pause between two probes of a node.", 10, 60000},
    ConfigKey{"gateway.reattach_s", "reattach-s", kInteger, "300", "s",
              "How long a closed stream can be taken up again by Last-Event-ID.", 0, 86400},
    ConfigKey{"gateway.redis", "redis", kText, "", "",
              "Redis that several gateways share, host:port or unix:/path; optional, and no request depends on it."},
    ConfigKey{"gateway.redis_password_file", "redis-password-file", kText, "", "", "File with its password."},
    ConfigKey{"gateway.cache", "response-cache", kBoolean, "false", "",
              "Answer deterministic requests (temperature 0, or a seed) from earlier complete answers."},
    ConfigKey{"gateway.cache_mib", "response-cache-mib", kInteger, "64", "MiB",
              "Memory for answers that are kept, those of Idempotency-Keys too.", 0, 1048576},
    ConfigKey{"gateway.cache_ttl_s", "response-cache-ttl-s", kInteger, "3600", "s",
              "How long a cached answer is given.", 1, 2592000},
    ConfigKey{"gateway.idempotency_s", "idempotency-s", kInteger, "600", "s",
              "How long an Idempotency-Key stands for its first answer.", 1, 604800},
    ConfigKey{"gateway.drain_s", "drain-s", kInteger, "600", "s",
              "After SIGTERM open streams may take so long to finish.", 0, 86400},
    ConfigKey{"gateway.share_port", "share-port", kBoolean, "false", "",
              "Another gateway process may listen on the same port: start the new one, then SIGTERM the old one."},
    ConfigKey{"gateway.prestop_s", "prestop-s", kInteger, "0", "s",
              "After SIGTERM new requests are still taken for so long, while load balancers notice.", 0, 3600},
    ConfigKey{"log.access", "access-log", kBoolean, "true", "", "One line per request, a JSON object."},
    ConfigKey{"log.access_file", "access-log-file", kText, "", "",
              "File for the lines of requests, made anew on SIGHUP; empty puts them into the log on stderr."},
    ConfigKey{"log.level", "log-level", kText, "info", "", "trace, debug, info, warn, error or off."},
    ConfigKey{"log.format", "log-format", kText, "text", "", "text for people, json for collectors."},
};

}  // namespace

std::span<const ConfigKey> config_keys() {
  return kKeys;
}

}  // namespace hp
