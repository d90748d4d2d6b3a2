#!/bin/sh
# Prints the ACL file of Redis, made of users.acl beside this script and of three files with one password each:
#   sh users.sh admin.password gateway.password publisher.password >users.acl.made
# The result holds SHA-256 hashes. They have no salt, so that only passwords nobody can guess are safe: openssl rand -hex 32.
set -eu
[ $# -eq 3 ] || { echo "usage: $0 <admin's password file> <gateway's> <publisher's>" >&2; exit 2; }
hash() {
  password=$(cat "$1")
  [ ${#password} -ge 24 ] || { echo "$1: expected a password of 24 characters or more" >&2; exit 2; }
  printf %s "$password" | sha256sum | cut -d ' ' -f 1
}
admin=$(hash "$1") gateway=$(hash "$2") publisher=$(hash "$3")
# a line of a user goes on in the lines that begin with a blank
sed -e "s/#{admin}/#$admin/" -e "s/#{gateway}/#$gateway/" -e "s/#{publisher}/#$publisher/" "$(dirname "$0")/users.acl" |
  awk '/^(#|$)/ { next } /^ / { sub(/^ +/, " "); line = line $0; next } { if (line) print line; line = $0 } END { print line }'
