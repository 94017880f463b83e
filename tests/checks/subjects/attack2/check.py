import json, subprocess, sys
from pathlib import Path
H = Path(__file__).parent
net = sys.argv[1]; pre = sys.argv[2:] or [""]
rows = [l.split("\t") for l in (H / "expected.tsv").read_text().splitlines()]
for name, want, fails in rows:
    if not any(name.startswith(p) for p in pre): continue
    try:
        r = subprocess.run(["nice", "timeout", "60", "/tmp/b/w-attack/.venv/bin/trio-chaos", "run", str(H / f"{name}.yaml"), "--network", net, "--verbose"], capture_output=True, text=True)
    except Exception as e: print(name, e); continue
    out = r.stdout
    got = out.split()[0] if out.split() else f"rc{r.returncode}"
    (H / "out").mkdir(exist_ok=True); (H / "out" / f"{name}.{net}.txt").write_text(out + r.stderr)
    ok = got == want and (not fails or f"\n  {fails}:" in out or f"guard {fails}" in out)
    tb = "Traceback" in out + r.stderr or r.returncode in (255, 124)
    if want == "NOCRASH": ok = True
    bad = [l for l in out.splitlines() if l.startswith("  ") and not l.startswith("   ") and not l.startswith("  PASS") and not l.startswith("  network") and not l.startswith("  again")]
    if got == "INCONCLUSIVE" and want == "PASS" and all("could be seen; expected at least" in l for l in bad): ok = True
    if not ok or tb:
        print(f"### {name}: want {want} {fails}, got {got} rc={r.returncode} {'TRACEBACK' if tb else ''}", flush=True)
        for line in out.splitlines() + (r.stderr.splitlines()[-5:]):
            if not line.startswith("  guard") or "ended" in line : print("    ", line[:230])
print("done", pre)
