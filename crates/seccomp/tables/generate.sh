#!/bin/sh
# Makes syscalls.tsv, the table of system call numbers, from the kernel's user space headers.
#
#   generate.sh X86 AARCH64 ARM >syscalls.tsv
#
# Each argument is a directory with `asm/unistd*.h` for that architecture, as `make headers_install` of the
# kernel or a distribution's linux-libc-dev package for it makes them (for x86 one that has unistd_64.h,
# unistd_32.h and unistd_x32.h). The table in the repository is of 6.1's headers; the numbers from 451 on
# are those of 6.18 and stand in `newer` below: since Linux 5.1 a new call has one number everywhere.
set -eu

# Prints "name number" for the macros of the header $2 under the include directory $1. More arguments go to
# the preprocessor.
numbers() {
    include=$1 header=$2
    shift 2
    names=$(echo "#include <$header>" | cc -E -dM "$@" -I"$include" - |
        sed -nE 's/^#define __(ARM_)?NR_([a-z_][a-z0-9_]*) .*/__\1NR_\2/p')
    {
        echo "#include <$header>"
        for name in $names; do echo "@${name#__*NR_}@ $name"; done
    } | cc -E -P "$@" -I"$include" - | sed -nE 's/^@(.*)@ (.*)$/\1 \2/p' |
        while read -r name value; do
            case $name in
            syscalls | arch_specific_syscall | *BASE*) ;;
            *) case $value in *NR*) ;; *) echo "$name $(($value))" ;; esac ;;
            esac
        done
}

newer='cachestat 451
fchmodat2 452
map_shadow_stack 453
futex_wake 454
futex_wait 455
futex_requeue 456
statmount 457
listmount 458
lsm_get_self_attr 459
lsm_set_self_attr 460
lsm_list_modules 461
mseal 462
setxattrat 463
getxattrat 464
listxattrat 465
removexattrat 466
open_tree_attr 467
file_getattr 468
file_setattr 469'
newer_x86_64='uretprobe 335
uprobe 336'

all=$(mktemp -d)
trap 'rm -rf "$all"' EXIT
{ numbers "$1" asm/unistd_64.h; echo "$newer"; echo "$newer_x86_64"; } >"$all/1"
{ numbers "$1" asm/unistd_32.h; echo "$newer"; } >"$all/2"
{ numbers "$1" asm/unistd_x32.h -D__X32_SYSCALL_BIT=0; echo "$newer"; echo "$newer_x86_64"; } >"$all/3"
{ numbers "$2" asm/unistd.h -U__x86_64__ -D__aarch64__ -D__BITS_PER_LONG=64; echo "$newer"; } >"$all/4"
{ numbers "$3" asm/unistd.h -U__x86_64__ -D__ARM_EABI__; echo "$newer"; } >"$all/5"

echo "# System call numbers, made by generate.sh. Columns: name, x86_64, x86, x32 (without its bit), aarch64, arm."
for n in 1 2 3 4 5; do sed "s/^/$n /" "$all/$n"; done | awk '
    { at[$2, $1] = $3; names[$2] = 1 }
    END {
        for (name in names) {
            line = name
            for (n = 1; n <= 5; n++) line = line "\t" ((name, n) in at ? at[name, n] : "-")
            print line
        }
    }' | LC_ALL=C sort
