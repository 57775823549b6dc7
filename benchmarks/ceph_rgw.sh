#!/bin/bash
# A Ceph RGW of one monitor, one OSD in memory and one gateway, in one folder, to try headrace on.
# Debian 12: apt-get install --no-install-recommends ceph-mon ceph-osd ceph-mgr ceph-common radosgw
# usage: benchmarks/ceph_rgw.sh FOLDER [PORT]      stop: kill $(cat FOLDER/run/*.pid)
set -e
folder=$(realpath -m "${1:?folder}"); port=${2:-7480}
mkdir -p "$folder"/{mon,osd,rgw,run,log}; cd "$folder"
fsid=$(cat /proc/sys/kernel/random/uuid)
cat > ceph.conf <<CONF
[global]
fsid = $fsid
mon_host = 127.0.0.1:6789
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
mon_allow_pool_size_one = true
run_dir = $folder/run
log_file = $folder/log/\$name.log
admin_socket = $folder/run/\$name.asok
pid_file = $folder/run/\$name.pid
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
mon_data = $folder/mon
osd_data = $folder/osd
rgw_data = $folder/rgw
rgw_frontends = beast endpoint=127.0.0.1:$port
CONF
conf=(-c "$folder/ceph.conf")
monmaptool --create --add a 127.0.0.1:6789 --fsid "$fsid" monmap --clobber
ceph-mon "${conf[@]}" --mkfs -i a --monmap monmap
ceph-mon "${conf[@]}" -i a
osd=$(cat /proc/sys/kernel/random/uuid)
ceph "${conf[@]}" osd new "$osd" 0
ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd"
ceph-osd "${conf[@]}" -i 0
radosgw "${conf[@]}" -n client.rgw.a
radosgw-admin "${conf[@]}" user create --uid t --display-name t \
  --access-key testing --secret testing-secret > /dev/null
echo "http://127.0.0.1:$port, key testing, secret testing-secret"
