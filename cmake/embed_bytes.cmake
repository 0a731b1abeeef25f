# Writes OUT: the file IN, of any bytes, as one constant. See hp_embed_web in HomeportTargets.cmake.
file(READ "${IN}" hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" hex "${hex}")
file(WRITE "${OUT}" "#include <string_view>\nnamespace hp::${ROOM}::data {\nextern const std::string_view ${SYMBOL};\n"
     "static const unsigned char bytes[] = {\n${hex}};\n"
     "const std::string_view ${SYMBOL}(reinterpret_cast<const char*>(bytes), ${bytes});\n}\n")
