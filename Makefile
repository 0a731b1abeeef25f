# The front door. Each target installs what it needs and then calls one script or one CMake preset.
.PHONY: serve test build build-release bench bench-cpu chaos rolling check fmt tidy layout unit e2e fuzz deps test-deps cuda gpu-test gpu-bench gpu-bundle clean

JOBS ?= $(shell nproc)

serve:            ## build, fetch the default model, start on 127.0.0.1:8000
	@scripts/serve.sh

test: test-deps   ## every test: layout, unit, golden, conformance, end to end; closes with "N passed, N failed"
	@python3 scripts/run_tests.py

build: deps       ## the program and all test binaries
	@cmake --preset dev >/dev/null && cmake --build build/dev -j $(JOBS)

bench: build-release  ## the default model beside llama.cpp, and what batching and paging are worth
	@bench/peer_llama_cpp.py
	@bench/serving.py

bench-cpu: build-release test-deps  ## the CPU table: real shapes beside llama.cpp and beside the machine's limits (an hour; ONLY=1.5b-q4_0 for a part)
	@cmake --build build/release -j $(JOBS) --target arch_bench machine_limits
	@.venv/bin/python bench/cpu_table.py $(if $(ONLY),--only $(ONLY)) --csv bench/results/cpu_table.csv

build-release: deps
	@cmake --preset release >/dev/null && cmake --build build/release -j $(JOBS) --target homeport

check: test-deps  ## before every commit: format, tidy, layout, unit tests
	@python3 scripts/run_tests.py --check

tidy: test-deps   ## clang-tidy over the whole tree (minutes the first time; clean files are remembered)
	@python3 scripts/run_tests.py --tidy

fmt:              ## reformat the tree
	@git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.cpp' | xargs -r clang-format -i

e2e: test-deps    ## end-to-end tests only
	@python3 scripts/run_tests.py --only e2e

unit: test-deps
	@python3 scripts/run_tests.py --only unit

chaos:            ## faults of every kind under load, both tiers (a few minutes)
	@cmake --preset dev >/dev/null && cmake --build build/dev -j $(JOBS) --target chaos gateway_tool fake_node homeport
	@build/dev/chaos --streams 10000 --concurrent 120 --every 2 --each 2 --redis $$(command -v redis-server)
	@build/dev/chaos --scenario standby --streams 1500 --concurrent 50 --every 20 --seconds 1.5
	@python3 tests/chaos/real_engine.py --streams 320 --every 1.5

rolling:          ## 10-minute streams while every node is restarted and taken away in turn (STREAM_SECONDS)
	@cmake --preset dev >/dev/null && cmake --build build/dev -j $(JOBS) --target chaos gateway_tool fake_node
	@build/dev/chaos --scenario rolling --streams 100 --concurrent 100 --every 10 --pace-ms 100 --seconds $${STREAM_SECONDS:-600}

drills: test-deps ## eight faults on a local cluster: detection, actions, notices, recovery, as a table (RUNS, default 3; ONLY='node slow,KV full')
	@cmake --preset dev >/dev/null && cmake --build build/dev -j $(JOBS) --target homeport
	@.venv/bin/python tests/ops/drills.py --runs $(or $(RUNS),3) --only "$(ONLY)"

layout:
	@python3 scripts/check_layout.py

fuzz: test-deps   ## every fuzzer for FUZZ_SECONDS each (default 300) under ASan
	@scripts/fuzz.sh

cuda:             ## the GPU plug-in; needs nvcc 12.8 or newer and nothing else
	@cmake -S cuda -B build/cuda >/dev/null && cmake --build build/cuda -j $(JOBS)

gpu-test: cuda    ## on a GPU machine: bits and draws of the kernels, memcheck, goldens through --device cuda
	@scripts/gpu_session.sh test

gpu-bench: cuda   ## on a GPU machine: docs/gpu.md's table, targets beside figures (build/gpu_session/table.md and .json)
	@scripts/gpu_session.sh bench

gpu-bundle: deps  ## the program and its libraries in build/gpu, for GPU machines that cannot build it
	@scripts/gpu_bundle.sh

deps:
	@scripts/install_deps.sh build

test-deps:
	@scripts/install_deps.sh test

clean:
	rm -rf build
