# The first process of the guest kernel: makes a machine out of a bare kernel
# and the file tree of the machine below, runs one command, and powers off.
# Arguments: none, a kernel passes none on. guest.py writes the variables folder,
# modules, tree (of modules) and disk in front of this text, and the command into $folder/command.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'sync; busybox poweroff -f' EXIT
set -e

# The tree below is only read: what the guest writes goes to memory, above it.
mount -t tmpfs -o mode=755,size=100% memory /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t proc proc /proc
modprobe() { /usr/sbin/modprobe -d /mnt "$@"; }
mkdir -p /mnt/lib && ln -s "$tree" /mnt/lib/modules
modprobe overlay
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work guest /mnt/root
umount /proc
cd /mnt/root
mkdir -p mnt/below mnt/out mnt/disk lib/modules
pivot_root . mnt/below

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t mqueue mqueue /dev/mqueue
ln -sf /proc/self/fd /dev/fd
for place in /dev/shm /run; do mount -t tmpfs -o mode=1777 tmpfs "$place"; done
chmod 755 /run
# Temporary files go where a disk of a host can be (TMPDIR says so to programs);
# /tmp stays as it is below, for scripts and environments that are there.
mkdir -m 1777 /run/tmp
# The tmpfs has what an overlay needs above it; the overlay of the root has not.
mkdir -p /var/lib/docker
mount -t tmpfs -o mode=711 tmpfs /var/lib/docker
mount -t hostfs -o "$folder" out /mnt/out
# Folders of guests are named after processes of the machine below, which look
# dead from here: hidden, or they would be reaped.
mount -t tmpfs tmpfs "${folder%/*}"
# Where the kernel itself looks when it wants a module.
mount --bind "$tree" /lib/modules
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r controller _ _ enabled; do
    case $controller in \#*) continue ;; esac
    [ "$enabled" = 1 ] || continue
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
done < /proc/cgroups
/usr/sbin/modprobe -a $modules
hostname guest
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
if [ -n "$disk" ]; then mount /dev/ubda /mnt/disk; fi

set +e
# Not exec: this process has to live on, as the one that collects orphans.
sh /mnt/out/command < /dev/null > /dev/console 2>&1
echo $? > /mnt/out/code
if [ -n "$disk" ]; then umount /mnt/disk; fi
