# Compares what the checking layers executed with what tests/gate.txt asks for.
#
#   awk -v column=2|3 -f tests/counters.awk tests/gate.txt COUNTERS
#
# COUNTERS has lines `LAYER COUNTER VALUE`, written by the layers themselves; lines of one counter
# are added up. Column 2 is the ordinary test command, column 3 the full run. Exits 1 if a counter
# is below its minimum, which a counter that was never written is too.
FNR == NR { if ($0 !~ /^#/ && $1 ~ /\./) { minimum[$1] = $column; order[++asked] = $1 } next }
/^#/ || NF < 3 { next }
{ executed[$1 "." $2] += $3 }
END {
    printf "%-40s %14s %14s\n", "layer.counter", "executed", "minimum"
    for (i = 1; i <= asked; i++) {
        name = order[i]
        printf "%-40s %14d %14d\n", name, executed[name], minimum[name]
        if (executed[name] + 0 < minimum[name] + 0) {
            printf "    %s is below its minimum\n", name
            below++
        }
    }
    if (!asked) { print "    the gate asks for no counter at all"; below++ }
    exit below > 0
}
