# One function per kind of target. Files are found by their ending:
#   *.cpp library, *_test.cpp one GoogleTest program per room, *_bench.cpp one Google Benchmark program per room,
#   *_fuzz.cpp one libFuzzer program per file. main.cpp is left to hp_program.

# hp_room(NAME [TEST_ONLY] DEPS rooms... LINK libraries...): library hp_NAME and program NAME_test.
function(hp_room name)
  cmake_parse_arguments(ARG "TEST_ONLY" "" "DEPS;LINK" ${ARGN})
  set(dir "${PROJECT_SOURCE_DIR}/src/${name}")
  file(GLOB_RECURSE all CONFIGURE_DEPENDS "${dir}/*.cpp")
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz|/main)\\.cpp$")
  set(deps ${ARG_DEPS})
  list(TRANSFORM deps PREPEND hp_)
  if(sources)
    add_library(hp_${name} STATIC ${sources})
    target_link_libraries(hp_${name} PUBLIC hp_flags ${deps} ${ARG_LINK})
  else()
    add_library(hp_${name} INTERFACE)
    target_link_libraries(hp_${name} INTERFACE hp_flags ${deps} ${ARG_LINK})
  endif()
  hp_test(${name} ${all})
  hp_benchmark(${name} ${all})
  hp_fuzzers(${name} ${all})
endfunction()

function(hp_test room)
  set(tests ${ARGN})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  if(tests AND NOT HP_FUZZ)
    add_executable(${room}_test ${tests})
    target_link_libraries(${room}_test PRIVATE hp_${room} GTest::gmock_main)
    # By name, not TARGET: sim is declared after the rooms whose tests run on its fakes.
    if(room MATCHES "^(engine|node|gateway|cli)$")
      target_link_libraries(${room}_test PRIVATE hp_sim)
    endif()
    # Only where it is used: the path of a checkout in every command line would keep ccache from sharing between checkouts.
    foreach(test IN LISTS tests)
      file(STRINGS "${test}" uses REGEX HP_SOURCE_DIR LIMIT_COUNT 1)
      if(uses)
        set_source_files_properties("${test}" PROPERTIES COMPILE_DEFINITIONS HP_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
      endif()
    endforeach()
    target_compile_options(${room}_test PRIVATE -Wno-pedantic)
    add_test(NAME ${room} COMMAND ${room}_test)
  endif()
endfunction()

function(hp_benchmark room)
  set(benches ${ARGN})
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")
  if(benches AND NOT HP_FUZZ)
    add_executable(${room}_bench ${benches})
    target_link_libraries(${room}_bench PRIVATE hp_${room} benchmark::benchmark)
  endif()
endfunction()

function(hp_fuzzers room)
  if(NOT HP_FUZZ)
    return()
  endif()
  set(fuzzers ${ARGN})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cpp$")
  foreach(file IN LISTS fuzzers)
    get_filename_component(target "${file}" NAME_WE)
    add_executable(${target} "${file}")
    target_link_libraries(${target} PRIVATE hp_${room})
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  endforeach()
endfunction()

# hp_program(NAME ROOM room MAIN file): an installed program.
function(hp_program name)
  cmake_parse_arguments(ARG "" "ROOM;MAIN" "" ${ARGN})
  if(NOT HP_FUZZ AND EXISTS "${PROJECT_SOURCE_DIR}/${ARG_MAIN}")
    add_executable(${name} "${ARG_MAIN}")
    target_link_libraries(${name} PRIVATE hp_${ARG_ROOM})
    set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON)  # names in stack traces (base/black_box.h)
    install(TARGETS ${name} RUNTIME DESTINATION bin)
  endif()
endfunction()

# hp_embed(ROOM folders...): every file of these folders of the room compiled in. src/x/data/some_name.toml becomes
# `extern const std::string_view some_name_toml;` in namespace hp::x::data (declare it where it is used).
function(hp_embed room)
  set(all)
  foreach(folder IN LISTS ARGN)
    file(GLOB_RECURSE files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${room}/${folder}/*")
    list(APPEND all ${files})
  endforeach()
  foreach(source IN LISTS all)
    get_filename_component(name "${source}" NAME)
    string(REGEX REPLACE "[^A-Za-z0-9]" "_" symbol "${name}")
    set(output "${CMAKE_CURRENT_BINARY_DIR}/embedded/${room}/${symbol}.cpp")
    add_custom_command(
      OUTPUT "${output}"
      COMMAND ${CMAKE_COMMAND} -DIN=${source} -DOUT=${output} -DROOM=${room} -DSYMBOL=${symbol}
              -P "${PROJECT_SOURCE_DIR}/cmake/embed.cmake"
      DEPENDS "${source}" "${PROJECT_SOURCE_DIR}/cmake/embed.cmake" VERBATIM)
    target_sources(hp_${room} PRIVATE "${output}")
  endforeach()
endfunction()

# hp_embed_web(ROOM folder FILES entries...): the pages of src/ROOM/folder, each compressed and compiled in. x.jsx is
# bundled with the libraries it imports into x.js; a folder's app.js becomes `web_app_js` as hp_embed does it.
function(hp_embed_web room folder)
  cmake_parse_arguments(ARG "" "" "FILES" ${ARGN})
  set(dir "${PROJECT_SOURCE_DIR}/src/${room}/${folder}")
  set(out "${CMAKE_CURRENT_BINARY_DIR}/embedded/${room}/${folder}")
  file(MAKE_DIRECTORY "${out}")
  file(GLOB_RECURSE all CONFIGURE_DEPENDS "${dir}/*")
  foreach(file IN LISTS ARG_FILES)
    string(REGEX REPLACE "\\.jsx$" ".js" name "${file}")
    string(REGEX REPLACE "[^A-Za-z0-9]" "_" symbol "${folder}_${name}")
    if(name MATCHES "\\.(js|css)$")
      set(make ${CMAKE_COMMAND} -E env "NODE_PATH=${HP_NODE_MODULES}" "${ESBUILD_PROGRAM}" "${dir}/${file}" --bundle --minify
          --log-level=warning --format=iife --target=es2020 "--define:process.env.NODE_ENV=\"production\""
          "--alias:dygraphs=${HP_DYGRAPHS}" "--outfile=${out}/${name}")
    else()
      set(make ${CMAKE_COMMAND} -E copy "${dir}/${file}" "${out}/${name}")
    endif()
    add_custom_command(
      OUTPUT "${out}/${name}.cpp"
      COMMAND ${make}
      COMMAND "${GZIP_PROGRAM}" -9nkf "${out}/${name}"
      COMMAND ${CMAKE_COMMAND} -DIN=${out}/${name}.gz -DOUT=${out}/${name}.cpp -DROOM=${room} -DSYMBOL=${symbol}
              -P "${PROJECT_SOURCE_DIR}/cmake/embed_bytes.cmake"
      DEPENDS ${all} "${PROJECT_SOURCE_DIR}/cmake/embed_bytes.cmake" VERBATIM)
    target_sources(hp_${room} PRIVATE "${out}/${name}.cpp")
  endforeach()
endfunction()
