// Limits of the room text.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp::text_limits {

inline constexpr std::size_t kVocabMax = 4U << 20U;         ///< tokens of one vocabulary
inline constexpr std::size_t kSpecialLengthMax = 512;       ///< bytes of a special token's spelling
inline constexpr std::size_t kTextRunBytesMax = 1U << 30U;  ///< a longer run is cut here, so that offsets fit 32 bits

// Reply parser: how much of an answer may be held back.
inline constexpr std::size_t kHeldLineBreaksMax = 64;           ///< before a marker
inline constexpr std::size_t kCallHeadBytesMax = 1024;          ///< a tool call's type or name; more is content
inline constexpr std::size_t kToolCallRawBytesMax = 1U << 20U;  ///< a call whose name has not come yet

// Grammars: what a schema may ask for; beyond it is an error that says so.
inline constexpr std::size_t kSchemaBytesMax = 256U << 10U;     ///< of a schema's text
inline constexpr std::size_t kGrammarNodesMax = 300'000;        ///< of one grammar
inline constexpr std::size_t kGrammarRulesMax = 20'000;         ///< schemas that a grammar keeps apart
inline constexpr std::size_t kSchemaMergesMax = 20'000;         ///< of allOf, anyOf and $ref with neighbours
inline constexpr std::size_t kSchemaWorkBytesMax = 32U << 20U;  ///< text of all schemas that were looked at
inline constexpr std::size_t kDfaStateWork = 512;               ///< what a pattern's state counts of those bytes
inline constexpr std::int32_t kFreeKeyLengthMax = 64;           ///< characters of a key that no schema declares
inline constexpr int kIndentMax = 24;                           ///< spaces and tabs after a line break
inline constexpr std::int64_t kArrayItemsMax = 10'000;          ///< minItems, maxItems
inline constexpr std::int64_t kStringLengthMax = 1'000'000;  ///< minLength, maxLength; with a pattern the states count
inline constexpr std::size_t kDfaStatesMax = 8'000;          ///< of one pattern; below 0xFFFF
inline constexpr std::size_t kRegexBytesMax = 4096;          ///< of a pattern
inline constexpr std::size_t kRegexNodesMax = 20'000;        ///< of a pattern with its repetitions written out
inline constexpr std::size_t kRegexWorkMax = 2'000'000;      ///< nodes in all states of a pattern together
inline constexpr int kRegexDepthMax = 32;                    ///< of groups
inline constexpr int kRegexRepeatMax = 1000;                 ///< {m,n}
inline constexpr std::size_t kGrammarThreadsMax = 256;  ///< alternatives followed at once; further ones are left out
inline constexpr std::uint32_t kGrammarDepthMax = 48;   ///< rules open at once before only the shortest ways go on
inline constexpr std::size_t kPatternsKept = 32;        ///< automata whose masks are kept for further answers
inline constexpr std::size_t kPatternStatesKept = 256;  ///< of one automaton, a mask each
inline constexpr std::size_t kEagerClassTries = 9;  ///< automata, any string among them, looked at before a first token
inline constexpr std::size_t kThreadSetsMax = 2048;          ///< sets of alternatives kept per answer, a kilobyte each
inline constexpr std::size_t kMaskCacheMax = 256;            ///< masks kept per answer
inline constexpr std::size_t kGrammarStacksMax = 1U << 20U;  ///< return places kept before unused ones are dropped

}  // namespace hp::text_limits
