// The program's entry. The rooms under it are built and tested; the subcommands that join them are not written yet.
#include <cstdio>

int main() {
  std::fputs("homeport: this build has no commands yet; README.md, \"Where it stands\", lists what works.\n", stderr);
  return 1;
}
