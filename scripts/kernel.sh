#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh [--source series|pristine|mutant|check] [--config NAME[+NAME...]]
#           [--clang] [--target TARGET] [--make VARIABLE=VALUE]...
#
# Build the kernel of scripts/configs/NAME.config over tinyconfig, and put bzImage,
# vmlinux and .config into build/<base>/lab/<source>-<config>/. With several
# NAMEs, the later fragments go over the former ones, and all over lab, unless the
# first is e2e-l2 or allmodconfig.  A line "#make VARIABLE=VALUE" in a
# fragment is for the make command line.
#
# With --target, make these targets and no kernel, as far as they go. --clang is
# for another compiler. Both have their own directory for objects.

. "$(dirname "$0")/lib.sh"

source=series
config=lab
target=
suffix=
cc=gcc
make=() clang=
options 0 "source: config: clang target: make+" "$@"
variables=(${make[@]+"${make[@]}"})
if [[ $clang ]]; then
	cc=clang-19 suffix=-clang
	variables+=(LLVM=-19)
fi

config=$(full_config "$config")
start=tinyconfig
IFS=+ read -ra fragments <<< "$config"
if [[ ${fragments[0]} == allmodconfig ]]; then
	start=allmodconfig
	fragments=("${fragments[@]:1}")
fi
for i in "${!fragments[@]}"; do
	[[ ${fragments[i]} != */* && -f $TOP/scripts/configs/${fragments[i]}.config ]] ||
		die "no kernel configuration ${fragments[i]}" \
		    "use CONFIG= one of: $(cd "$TOP/scripts/configs" && echo *.config | sed 's/\.config//g')"
	fragments[i]=$TOP/scripts/configs/${fragments[i]}.config
done

mapfile -t -O "${#variables[@]}" variables < <(cat /dev/null ${fragments[@]+"${fragments[@]}"} | sed -n 's/^#make //p')

need make "$cc" ccache flex bison bc perl
load_base
case $source in
series) src=$LINUX ;;
pristine) src=$BUILD/pristine; "$TOP/scripts/tree.sh" pristine ;;
mutant|check) src=$BUILD/$source ;;
*) die "kernel.sh: unknown source $source" "use series, pristine, mutant or check" ;;
esac
[[ -d $src ]] || die "there is no build/$BASE/linux" "run: make tree"
lock

[[ ! $target ]] || suffix+=-part
name=$source-$config$suffix
out=$BUILD/lab/$name
obj=$src/o-$config$suffix
log=$out/build.log
mkdir -p "$out" "$obj"

kmake() {
	make -C "$src" O="o-$config$suffix" -j"$(nproc)" LOCALVERSION="-$source" \
		CC="ccache $cc" HOSTCC="ccache $cc" "${variables[@]}" "$@"
}

# True if no Kconfig file and nothing of ours is newer than the configuration.
configured() {
	[[ -f $obj/.configured ]] &&
	[[ -z $(find "$0" ${fragments[@]+"${fragments[@]}"} -newer "$obj/.configured") ]] &&
	[[ -z $(find "$src" -name 'o-*' -prune -o -name 'Kconfig*' -newer "$obj/.configured" -print) ]]
}

# In a file of its own, so that an unchanged .config keeps its time.
configure() {
	local -x KCONFIG_CONFIG=.config.new

	kmake "$start" || return
	((${#fragments[@]})) || return 0
	(cd "$obj" && ../scripts/kconfig/merge_config.sh -m "$KCONFIG_CONFIG" "${fragments[@]}") &&
	kmake olddefconfig
}

check_config() {
	local line option

	# The last word on an option counts.
	while read -r line; do
		if [[ $line =~ ^(CONFIG_[A-Z0-9_a-z]+)=. ]]; then
			grep -qxF -e "$line" "$obj/.config.new" && continue
		elif [[ $line =~ ^'# '(CONFIG_[A-Z0-9_a-z]+)' is not set'$ ]]; then
			grep -q -e "^${BASH_REMATCH[1]}=" "$obj/.config.new" || continue
		else
			continue
		fi
		option=${BASH_REMATCH[1]}
		die "$option is not what the configuration $config asks for in the $source kernel" \
		    "add what it depends on to scripts/configs, or remove it"
	done < <(cat /dev/null ${fragments[@]+"${fragments[@]}"} | grep -oE '^(# )?CONFIG_[A-Z0-9_a-z]+(=| is).*' | tac |
		 awk '{ option = $0; sub(/^# /, "", option); sub(/[= ].*/, "", option) } !seen[option]++')
}

say "kernel: $name"
if ! configured; then
	rm -f "$obj/.configured"
	logged "$log" configure ||
		die "configuring $name failed" "see $log"
	check_config
	cmp -s "$obj/.config.new" "$obj/.config" || cp "$obj/.config.new" "$obj/.config"
	touch "$obj/.configured"
fi

if [[ $target ]]; then
	# shellcheck disable=SC2086
	logged "$log" kmake -k $target ||
		die "building $target of $name failed" "see $log"
	say "kernel: $target is built"
	exit
fi

if ! logged "$log" kmake all; then
	rm -f "$out/bzImage"
	die "building $name failed" "see $log"
fi

# A kernel under test stays whole while the next one is put in its place.
cp "$obj/.config" "$out/.config"
ln -sfn "$obj/vmlinux" "$out/vmlinux"
cp "$obj/arch/x86/boot/bzImage" "$out/bzImage.new"
mv "$out/bzImage.new" "$out/bzImage"
say "kernel: build/$BASE/lab/$name/bzImage"
