#!/bin/sh
# Prints the ACL file of Redis, made of users.acl beside this script and of files with one password each:
#   sh users.sh admin.password gateway.password publisher.password [replica.password sentinel.password] >users.acl.made
# The last two are for servers that have replicas and Sentinels. With --sentinel before them, and all five, it is the file of the Sentinels, made of sentinel.acl.
# The result holds SHA-256 hashes. They have no salt, so that only passwords nobody can guess are safe: openssl rand -hex 32.
set -eu
template=users.acl
if [ "${1-}" = --sentinel ] && [ $# -eq 6 ]; then template=sentinel.acl; shift; fi
[ $# -eq 3 ] || [ $# -eq 5 ] || { echo "usage: $0 [--sentinel] <admin's password file> <gateway's> <publisher's> [<replica's> <sentinel's>]" >&2; exit 2; }
hash() {
  password=$(cat "$1")
  [ ${#password} -ge 24 ] || { echo "$1: expected a password of 24 characters or more" >&2; exit 2; }
  printf %s "$password" | sha256sum | cut -d ' ' -f 1
}
admin=$(hash "$1")
gateway=$(hash "$2")
publisher=$(hash "$3")
servers=
if [ $# -eq 5 ]; then
  replica=$(hash "$4")
  sentinel=$(hash "$5")
  servers="s/#{replica}/#$replica/;s/#{sentinel}/#$sentinel/"
fi
# a line of a user goes on in the lines that begin with a blank; one without its password is left out
sed -e "s/#{admin}/#$admin/" -e "s/#{gateway}/#$gateway/" -e "s/#{publisher}/#$publisher/" -e "$servers" "$(dirname "$0")/$template" |
  awk '/^(#|$)/ { next } /^ / { sub(/^ +/, " "); line = line $0; next } { if (line) print line; line = $0 } END { print line }' | grep -v '#{'
