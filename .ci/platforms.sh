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
# of the file that each is in. SKIPPED has lines "test: reason".
count() {
	local platform=$1 log=$2 skipped=$3
	mark "$platform" built
	{ grep -H -o -E '^func (Test|Example|Fuzz)[A-Za-z0-9_]*' --include='*_test.go' -r . | sed 's/^\.\///; s/:func / /' | sed 's/^/FILE /'
		grep -E '^ *--- (PASS|SKIP): ' "$log"; } | awk -v platform="$platform" '
		$1 == "FILE" { file[$3] = $2; next }
		{ name = $3; result[name] = $2; for (parent = name; sub(/\/[^\/]*$/, "", parent);) inner[parent] = 1 }
		function column(name,    top, f) {
			top = name
			sub(/\/.*/, "", top)
			f = file[top]
			if (name ~ /^TestConformance/) return "conformance"
			if (name ~ /\/(.*[ _])?(C|Python)(_|$)/ || top ~ /^Test(LimitAcrossProcesses|HandOversStarveNobody|SafetyNetKeepsThePlace|ClosingLeavesNothingBehind|NativeStress|OtherWordSize|OtherByteOrder|BesideMusl|MuslInOurPlace|ForkedProgramKeepsThePermit|WhoCallsLibc|TwoKindsOfOneName)$/) return "interoperation"
			if (f ~ /(^|\/)(recover|storm|surroundings|sweep)[a-z_]*_test\.go$/ || f ~ /^internal\/permits\//) return "recovery"
			if (f ~ /^(multiprocess|users|exit|interrupt|native|example_child)[a-z_]*_test\.go$/ || f ~ /^cmd\//) return "multi-process"
			return "other"
		}
		END {
			for (name in result) if (!(name in inner)) {
				c = column(name)
				if (result[name] == "SKIP:") skip[c]++; else pass[c]++
				all[c] = 1
			}
			for (c in all) printf "%s|%s|%d|%d\n", platform, c, pass[c], skip[c]
		}' >>"$counts"
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

# marks prints for README which columns have tests that passed, platforms with the same
# ones in one row.
marks() {
	awk -F '|' -v columns="$columns" '
		!($1 in seen) { seen[$1] = 1; order[++n] = $1 }
		$3 > 0 { done[$1, $2] = 1 }
		END {
			k = split(columns, c, " ") - 1 # all but "other"
			head = "| platform |"
			rule = "|---|"
			for (i = 1; i <= k; i++) { head = head " " c[i] " |"; rule = rule "---|" }
			print head
			print rule
			for (r = 1; r <= n; r++) {
				row = ""
				for (i = 1; i <= k; i++) row = row (((order[r], c[i]) in done) ? " ✓ |" : " – |")
				if (!(row in names)) rows[++m] = row
				names[row] = names[row] (names[row] == "" ? "" : "; ") order[r]
			}
			for (r = 1; r <= m; r++) print "| " names[rows[r]] " |" rows[r]
		}' "$counts"
}

# platforms prints the table, and holds README's against it (UPDATE_PLATFORMS=1 writes
# that anew).
platforms() {
	local begin='<!-- platforms -->' end='<!-- end of platforms -->'
	table
	marks >"$work/marks"
	if [ -n "${UPDATE_PLATFORMS:-}" ]; then
		awk -v begin="$begin" -v end="$end" -v marks="$work/marks" '
			$0 == end { inside = 0 }
			!inside { print }
			$0 == begin { inside = 1; while ((getline line < marks) > 0) print line }
		' README.md >"$work/readme" && cp "$work/readme" README.md || return 1
	fi
	sed -n "/^$begin\$/,/^$end\$/p" README.md | sed '1d;$d' | diff -u - "$work/marks" ||
		{ echo "README's table of platforms (-) is not what was tested (+)"; return 1; }
}
