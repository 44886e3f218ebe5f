# Part of .ci/run: what was tested where. Each run of tests adds its counts to a file,
# and at the end a table is made of that.

columns="built vetted conformance multi-process interoperation recovery other"
counts=$work/counts # platform|column|passed|skipped, a line for each run of tests
reasons=$work/reasons # platform|reason, a line for each test skipped
: >"$counts"
: >"$reasons"

# mark PLATFORM COLUMN: that was done, and no tests are counted.
mark() { printf '%s|%s|1|0\n' "$1" "$2" >>"$counts"; }

# count PLATFORM LOG SKIPPED: the leaves among the tests of a verbose log, in the column
# of the directory that each is in. A package's tests are followed by its line, "ok" or
# "FAIL" and its import path. In the root package the column is that of the test's name or
# file. SKIPPED has lines "test: reason".
count() {
	local platform=$1 log=$2 skipped=$3
	mark "$platform" built
	{ sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/MULTIPROCESS \1/p' multiprocess_test.go
		grep -E '^( *--- (PASS|SKIP): |(ok  |FAIL)	)' "$log"; } | awk -v platform="$platform" -v module="$(go list -m)" '
		function column(dir, name,    top) {
			top = name
			sub(/\/.*/, "", top)
			if (dir == "." && name ~ /^TestConformance/) return "conformance"
			if (dir == "test/interop" || name ~ /\/(.*[ _])?(C|Python)(_|$)/) return "interoperation"
			if (dir ~ /^(internal\/(recoverable|permits)|test\/(storm|sweep|environment))$/) return "recovery"
			if (dir == "." && top in multiprocess || dir == "internal/glibc" || dir == "internal/command") return "multi-process"
			return "other"
		}
		$1 == "MULTIPROCESS" { multiprocess[$2] = 1; next }
		$1 == "---" {
			name = $3
			result[name] = $2
			while (sub(/\/[^\/]*$/, "", name)) inner[name] = 1
			next
		}
		{
			dir = $2 == module ? "." : substr($2, length(module) + 2)
			for (name in result) if (!(name in inner)) {
				c = column(dir, name)
				if (result[name] == "SKIP:") skip[c]++; else pass[c]++
				all[c] = 1
			}
			split("", result)
			split("", inner)
		}
		END { for (c in all) printf "%s|%s|%d|%d\n", platform, c, pass[c], skip[c] }' >>"$counts"
	sed -e "s/^[^:]*: /$(printf '%s' "$platform" | sed 's/[\/&]/\\&/g')|/" "$skipped" >>"$reasons"
}

# table prints what was passed and, after a plus sign, skipped; and why.
table() {
	awk -F '|' -v columns="$columns" '
		!($1 in seen) { seen[$1] = 1; order[++n] = $1 }
		{ pass[$1, $2] += $3; skip[$1, $2] += $4; done[$1, $2] = 1 }
		END {
			k = split(columns, c, " ")
			printf "%-34s", "platform"
			for (i = 1; i <= k; i++) printf " %14s", c[i]
			print ""
			for (r = 1; r <= n; r++) {
				printf "%-34s", order[r]
				for (i = 1; i <= k; i++) {
					p = order[r]
					cell = "-"
					if ((p, c[i]) in done) {
						cell = i <= 2 ? "yes" : pass[p, c[i]]
						if (skip[p, c[i]]) cell = cell " +" skip[p, c[i]]
					}
					printf " %14s", cell
				}
				print ""
			}
		}' "$counts"
	printf '\nskipped (+), and why\n'
	LC_ALL=C sort "$reasons" | uniq -c | sed 's/^ *\([0-9]*\) \(.*\)|/\2|\1 /' |
		awk -F '|' '{ if ($1 != before) print $1; before = $1; print "    " $2 }'
}

# marks prints, for docs/platforms.md, which columns have tests that passed: a row for each
# platform, in the order of their names.
marks() {
	local shown=${columns% other}
	printf '| platform | %s |\n' "${shown// / | }"
	printf '|---|%s\n' "$(printf -- '---|%.0s' $shown)"
	awk -F '|' -v columns="$shown" '
		{ platforms[$1] = 1 }
		$3 > 0 { done[$1, $2] = 1 }
		END {
			k = split(columns, c, " ")
			for (p in platforms) {
				row = "| " p " |"
				for (i = 1; i <= k; i++) row = row (((p, c[i]) in done) ? " ✓ |" : " – |")
				print row
			}
		}' "$counts" | LC_ALL=C sort
}

# platforms prints the table, and holds that of docs/platforms.md against it
# (UPDATE_PLATFORMS=1 writes that anew).
platforms() {
	local page=docs/platforms.md begin='<!-- platforms -->' end='<!-- end of platforms -->'
	table
	marks >"$work/marks"
	if [ -n "${UPDATE_PLATFORMS:-}" ]; then
		awk -v begin="$begin" -v end="$end" -v marks="$work/marks" '
			$0 == end { inside = 0 }
			!inside { print }
			$0 == begin { inside = 1; while ((getline line < marks) > 0) print line }
		' "$page" >"$work/page" && cp "$work/page" "$page" || return 1
	fi
	sed -n "/^$begin\$/,/^$end\$/p" "$page" | sed '1d;$d' | diff -u - "$work/marks" ||
		{ echo "the table of $page (-) is not what was tested (+)"; return 1; }
}
