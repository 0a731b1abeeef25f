# Third-party libraries, all Debian packages (scripts/install_deps.sh names them; docs/adr/0001 says why each).
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)

# Header-only or without a CMake package: thin interface targets, so that system headers never raise our warnings.
find_path(HP_BOOST_INCLUDE boost/beast.hpp REQUIRED)
add_library(hp_boost INTERFACE)
target_include_directories(hp_boost SYSTEM INTERFACE "${HP_BOOST_INCLUDE}")
target_compile_definitions(hp_boost INTERFACE BOOST_ASIO_NO_DEPRECATED BOOST_BEAST_USE_STD_STRING_VIEW)

find_path(HP_CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
add_library(hp_cli11 INTERFACE)
target_include_directories(hp_cli11 SYSTEM INTERFACE "${HP_CLI11_INCLUDE}")

find_path(HP_LIBEDIT_INCLUDE histedit.h REQUIRED)
find_library(HP_LIBEDIT_LIBRARY edit REQUIRED)
add_library(hp_libedit INTERFACE)
target_include_directories(hp_libedit SYSTEM INTERFACE "${HP_LIBEDIT_INCLUDE}")
target_link_libraries(hp_libedit INTERFACE "${HP_LIBEDIT_LIBRARY}")

find_path(HP_XXHASH_INCLUDE xxhash.h REQUIRED)
find_library(HP_XXHASH_LIBRARY xxhash REQUIRED)
add_library(hp_xxhash INTERFACE)
target_include_directories(hp_xxhash SYSTEM INTERFACE "${HP_XXHASH_INCLUDE}")
target_link_libraries(hp_xxhash INTERFACE "${HP_XXHASH_LIBRARY}")

find_path(HP_HIREDIS_INCLUDE hiredis/hiredis.h REQUIRED)
find_library(HP_HIREDIS_LIBRARY hiredis REQUIRED)
add_library(hp_hiredis INTERFACE)
target_include_directories(hp_hiredis SYSTEM INTERFACE "${HP_HIREDIS_INCLUDE}")
target_link_libraries(hp_hiredis INTERFACE "${HP_HIREDIS_LIBRARY}")

# The console's pages are bundled at build time (hp_embed_web); nothing of this is in the program but their output.
find_program(ESBUILD_PROGRAM esbuild REQUIRED)
find_program(GZIP_PROGRAM gzip REQUIRED)
set(HP_NODE_MODULES /usr/share/nodejs)
find_file(HP_DYGRAPHS index.js PATHS /usr/share/javascript/dygraphs NO_DEFAULT_PATH REQUIRED)
find_file(HP_REACT_DOM client.js PATHS ${HP_NODE_MODULES}/react-dom NO_DEFAULT_PATH REQUIRED)
find_path(HP_SQLITE_INCLUDE sqlite3.h REQUIRED)
find_library(HP_SQLITE_LIBRARY sqlite3 REQUIRED)
add_library(hp_sqlite INTERFACE)
target_include_directories(hp_sqlite SYSTEM INTERFACE "${HP_SQLITE_INCLUDE}")
target_link_libraries(hp_sqlite INTERFACE "${HP_SQLITE_LIBRARY}" dl)
