#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Pack the tree of host/build.sh: build/<base>/host/kvm-hyperv-nested-relay-selftest_VERSION_amd64.deb,
# which installs beside the modules of "make deb", or on any other kernel with the relay.

. "$(dirname "$0")/../scripts/user.sh"
. "$(dirname "$0")/../scripts/lib.sh"

options 0 "" "$@"
need dpkg-deb lintian
load_base
user_name=${DEBFULLNAME:-$user_name} user_email=${DEBEMAIL:-$user_email}
[[ $user_name && $user_email == *?@?* ]] ||
	die "git's user.name and user.email are not set: no Maintainer" \
	    "git config --global user.name 'Your Name', and user.email"
name=kvm-hyperv-nested-relay-selftest
version=${VERSION%%-*}+relay$DEB_RELEASE
out=$BUILD/host
deb=$out/${name}_${version}_amd64.deb
stage=$out/stage

"$TOP/host/build.sh"
rm -rf "$stage" "$out"/*.deb
cp -r "$out/root" "$stage"
doc=$stage/usr/share/doc/$name
mkdir -p "$doc" "$stage/DEBIAN" "$stage"/usr/share/{man/man8,lintian/overrides}
for file in control copyright; do
	sed -e "s|@VERSION@|$version|g; s|@BASE@|$BASE|g; s|@PKG@|$PKG|g; s|@PKG_VERSION@|$VERSION|g" \
		-e "s|@MAINTAINER@|$user_name <$user_email>|g" \
		-e "s|@GLIBC@|$(dpkg-query -W -f '${source:Package} (= ${source:Version})' libc6-dev)|g" \
		"$TOP/host/package/debian/$file" > "$doc/$file"
done
mv "$doc/control" "$stage/DEBIAN/"
gzip -9n > "$doc/changelog.gz" <<-EOT
	$name ($version) unstable; urgency=medium

	  * The tests of series/ for $BASE.

	 -- $user_name <$user_email>  $(date -R -d "$(git -C "$LINUX" show -s --format=%cI base)")
EOT
# The second one has its page by the first.
gzip -9n < "$TOP/host/package/$name.8" > "$stage/usr/share/man/man8/$name.8.gz"
ln -s "$name.8.gz" "$stage/usr/share/man/man8/kvm-hyperv-nested-relay-record.8.gz"
cp "$TOP/host/package/debian/lintian-overrides" "$stage/usr/share/lintian/overrides/$name"
(cd "$stage" && find usr -type f -exec md5sum {} +) > "$stage/DEBIAN/md5sums"
chmod -R u=rwX,go=rX "$stage"
SOURCE_DATE_EPOCH=$(git -C "$LINUX" show -s --format=%ct base) \
	logged "$out/deb.log" dpkg-deb --root-owner-group -Zxz -b "$stage" "$deb" ||
	die "the package can't be packed" "see $out/deb.log"
rm -rf "$stage"
lintian --allow-root --fail-on error,warning --display-info "$deb" | tee "$out/lintian.log" ||
	die "lintian finds fault with the package" "see $out/lintian.log"
say "host: ${deb#"$TOP"/}"
