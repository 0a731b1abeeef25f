// The feed-forward of a mixture-of-experts layer: router, the routed experts of every token, shared experts; added to
// the residual. Only weights of experts that some token of the step goes to are read; rows are grouped by expert.
//
// Batch invariance: a token's experts are its own rows of products, and their outputs are added in ascending expert
// order, whatever else is in the step.
#pragma once

#include "arch/cpu/step_member.h"

namespace hp {

/// Reads and updates state.x. Ends with a barrier.
void moe_ffn(const StepMember& m, const FloatRow& norm, const MoeWeights& w);

}  // namespace hp
