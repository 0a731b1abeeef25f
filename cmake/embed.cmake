# Writes OUT: the text file IN as one constant. See hp_embed in HomeportTargets.cmake.
file(READ "${IN}" content)
file(WRITE "${OUT}" "#include <string_view>\nnamespace hp::${ROOM}::data {\nextern const std::string_view ${SYMBOL};\n"
     "const std::string_view ${SYMBOL} = R\"hp_embed(${content})hp_embed\";\n}\n")
