# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# To be sourced before lib.sh, which shuts the user's git configuration out: who
# the user is, in user_name and user_email. Both are empty if git doesn't know.

user_config() {
	git -C "$(dirname "$0")/.." config "$1" 2>/dev/null
}
user_name=$(user_config user.name)
user_email=$(user_config user.email)
