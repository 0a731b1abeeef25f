// The program's entry. Wiring only: every subcommand lives in its own file of this room.
int main() {
  return 0;
}
