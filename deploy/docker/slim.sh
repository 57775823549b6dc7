#!/bin/sh
# Takes out of an environment what no job uses: slim.sh /opt/headrace
# Sizes were measured with torch 2.13 and pyarrow 26; a name that is gone does no harm.
set -eu
cd "$1"/lib/python3.*/site-packages
# torch, 190 MB: compiled tests, headers, protoc. torch_shm_manager stays.
rm -rf torch/test torch/include torch/share torch/bin/protoc* torch/bin/*est* torch/bin/upgrader_models
rm -f torch/lib/libtorchbind_test.so torch/lib/libjitbackend_test.so torch/lib/libbackend_with_compiler.so
# pyarrow, 50 MB: Flight (a protocol for servers), its tests and headers
rm -rf pyarrow/tests pyarrow/include pyarrow/libarrow_flight.so* pyarrow/_flight.*
# 60 MB: what these test themselves with
for package in networkx numpy sympy; do
    [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
# Bytecode of what is imported is not worth its 300 MB.
find . -type d -name __pycache__ -prune -exec rm -rf {} +
