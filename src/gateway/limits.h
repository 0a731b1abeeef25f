// Named limits of the gateway: what clients and nodes can make it hold, wait for or repeat.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp::gateway {

using std::chrono::milliseconds;

inline constexpr std::size_t kMaxNodes = 1024;
inline constexpr std::size_t kMaxAdminConnections = 16;
inline constexpr std::size_t kMaxAdminBodyBytes = 64 << 10;
inline constexpr std::size_t kMaxEventBytes = 4 << 20;       ///< one SSE event of a node
inline constexpr std::size_t kMaxQueuedBytes = 1 << 20;      ///< of one client that reads slowly; beyond it is cut
inline constexpr std::size_t kMaxJournalTokens = 1 << 20;    ///< of one choice
inline constexpr std::size_t kMaxChoices = 128;              ///< of one stream
inline constexpr std::size_t kMaxErrorBodyBytes = 64 << 10;  ///< of a node's refusal, kept to pass on

inline constexpr std::size_t kMaxStreamLegs = 256;           ///< moves of one stream that are told
inline constexpr std::size_t kMaxSavedReplyBytes = 1 << 20;  ///< of one answer that is kept for later equal requests
inline constexpr std::size_t kMaxIdempotencyKeyBytes = 255;

inline constexpr int kMaxAttemptsWithoutProgress = 8;  ///< of one request, no new token in between: then it is given up
inline constexpr milliseconds kBackoffBase{25};        ///< full jitter between 0 and base · 2^n
inline constexpr milliseconds kBackoffMax{1'000};
inline constexpr milliseconds kOwnPause{400};  ///< the loop itself stood still for so long: silence then proves nothing
inline constexpr milliseconds kSweepInterval{100};  ///< the watchdog's look at every stream

// The pace watchdog: a silent node is dead after kStallFactor times its own longest recent pause, within these bounds.
inline constexpr double kStallFactor = 6.0;
inline constexpr milliseconds kStallMin{1'000};
inline constexpr milliseconds kStallMax{20'000};
inline constexpr double kDoubtFactor =
    2.0;  ///< a verdict on a node that still answers makes the next one wait so much longer
inline constexpr milliseconds kStallUnknown{3'000};  ///< until the node's pace is known
// A process that says nothing at all, neither tokens nor heartbeats nor answers to probes, is dead much sooner.
inline constexpr double kSilenceFactor = 3.0;       ///< times its own longest recent silence
inline constexpr milliseconds kSilenceIdle{2'000};  ///< at least, where only a probe waits or nothing is known

inline constexpr milliseconds kMaxDeadline{86'400'000};  ///< that a request may ask for

inline constexpr std::size_t kHedgeMinSamples = 64;           ///< first tokens, before any is called late
inline constexpr std::size_t kHedgeMaxPromptBytes = 8 << 10;  ///< of the messages; longer prompts are never sent twice
inline constexpr std::size_t kMaxHedgeBytes = 64 << 10;       ///< of a second answer without a first token

inline constexpr milliseconds kHandBackAfter{10'000};  ///< a better group must be usable so long to get the load back

// The shared journal. A gateway's word that it lives holds for kLease; whoever takes its streams waits that long.
inline constexpr milliseconds kBeat{150};
inline constexpr milliseconds kLease{600};
inline constexpr milliseconds kBeatKept{60'000};
inline constexpr milliseconds kWriteBehind{400};          ///< a stream's news are written so often
inline constexpr std::chrono::seconds kSharedTtlMin{60};  ///< a stream is kept at least so long
inline constexpr std::size_t kMaxSharedBodyBytes = 256 << 10;

// Answers that another gateway makes (flight_board.h).
inline constexpr milliseconds kFlightLook{100};       ///< its new chunks are fetched so often
inline constexpr milliseconds kFlightSilence{5'000};  ///< an owner that says nothing of it for so long has forgotten it
inline constexpr std::size_t kFlightBeats = 10;       ///< an owner without news says so every so many sweeps

// Usage that waits for Redis (usage_outbox.h).
inline constexpr milliseconds kOutboxHold{60'000};  ///< then it is counted without Redis' word
inline constexpr std::size_t kMaxOutbox = 1 << 16;  ///< ends of streams; beyond it the oldest is counted so too
inline constexpr std::size_t kOutboxBatch = 256;    ///< told in one sweep

inline constexpr milliseconds kQuotaSync{100};             ///< gateways tell one another so often what tenants took
inline constexpr std::size_t kQuotaTenantsPerRound = 100;  ///< more tenants: fewer rounds

inline constexpr std::size_t kPrefixWays = 4;             ///< nodes remembered for one prefix
inline constexpr std::size_t kPrefixSets = 1 << 14;       ///< 64 Ki entries of 16 bytes
inline constexpr std::size_t kPrefixMaxBytes = 64 << 10;  ///< of the prompt's text that are looked at
inline constexpr std::size_t kPrefixMaxBlocks = 24;

}  // namespace hp::gateway
