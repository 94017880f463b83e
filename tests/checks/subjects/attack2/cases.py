from build import *
import build
# controls
case("a00-control", "PASS", REC, bo(attempts_min=2), "no_leaks", {"delivers": {"duplicated": 0}}, "no_false_alarm", "single_connection", workload=BOTH)
# policies
P = {"backoff": {"initial": "500ms", "factor": 2, "max": "4s"}}
def pol(name, want, policy, client, server, *more, fails="", **k):
    case(name, want, {"backoff": {"initial": "500ms", "factor": 2, "max": "4s", "attempts_min": 2}}, *more, client=client, server=server, timeline=k.pop("timeline", [{"at": "2s", "for": "12s", "toxic": "noop", "name": "calm"}]),
         duration="16s", c={"policy": policy, "backoff": {"initial": "500ms", "factor": 2, "max": "4s"}, **k}, fails=fails)
pol("p01-pusher-4200", "PASS", "pusher", "ObeysPolicy", "C4200x4")
pol("p02-pusher-4200-always", "FAIL", "pusher", "AlwaysNow", "C4200x4", fails="backoff")
pol("p03-pusher-4100", "PASS", "pusher", "ObeysPolicy", "C4100")
pol("p04-pusher-4300", "PASS", "pusher", "ObeysAndReturns", "C4300", "no_leaks")
pol("p05-pusher-4004", "FAIL", "pusher", "AlwaysBacksOff", "C4004", fails="backoff")
pol("p06-discord-4009", "PASS", "discord", "ObeysPolicy", "C4009")
pol("p07-discord-4000", "PASS", "discord", "ObeysPolicy", "C4000")
pol("p08-discord-4004", "FAIL", "discord", "AlwaysBacksOff", "C4004", fails="backoff")
pol("p09-discord-4004-returns", "PASS", "discord", "ObeysAndReturns", "C4004")
pol("p10-graphql-1011", "FAIL", "graphql-ws", "AlwaysBacksOff", "C1011", fails="backoff")
pol("p11-graphql-1011-returns", "PASS", "graphql-ws", "ObeysAndReturns", "C1011")
pol("p12-graphql-4499", "PASS", "graphql-ws", "ObeysPolicy", "C4499")
pol("p13-graphql-1013", "PASS", "graphql-ws", "ObeysPolicy", "C1013")
pol("p14-graphql-4500", "PASS", "graphql-ws", "ObeysAndReturns", "C4500")
pol("p15-centrifugo-3000", "PASS", "centrifugo", "ObeysPolicy", "C3000")
pol("p16-centrifugo-3500", "PASS", "centrifugo", "ObeysAndReturns", "C3500")
pol("p17-centrifugo-4401", "PASS", "centrifugo", "ObeysPolicy", "C4401")
pol("p18-centrifugo-3500-comes", "FAIL", "centrifugo", "AlwaysBacksOff", "C3500", fails="backoff")
pol("p19-rfc-3000-twice", "PASS", "rfc", "ObeysAndReturns", "C3000")
pol("p20-rfc-4401-once", "PASS", "rfc", "ObeysPolicy", "C4401one")
pol("p21-rfc-4401-always", "FAIL", "rfc", "AlwaysBacksOff", "C4401", fails="backoff")
pol("p22-rfc-1013", "PASS", "rfc", "ObeysPolicy", "C1013")
pol("p23-custom-1012-now", "PASS", {"1012": "now"}, "ObeysPolicy", "C1012")
pol("p24-custom-1000-never", "PASS", {"1000": "never"}, "ObeysAndReturns", "C1000")
pol("p25-custom-4000-backoff", "PASS", {"4000": "backoff"}, "ObeysPolicy", "C4000")
pol("p26-custom-1012-long", "PASS", {"1012": "long"}, "ObeysPolicy", "C1012")
pol("p27-custom-4009-auth", "PASS", {"4009": "auth"}, "ObeysAndReturns", "C4009")
pol("p28-custom-1000-never-comes", "FAIL", {"1000": "never"}, "AlwaysBacksOff", "C1000", fails="backoff")
pol("p29-rfc-1000", "PASS", "rfc", "ObeysPolicy", "C1000")
# own codes
OUT = [{"at": "3s", "for": "9s", "fault": "drop_frames", "opcodes": ["pong"], "name": "cut"}]
for n in ("Own4000", "Own1011", "Own1008"):
    case("o-" + n.lower(), "PASS", {"backoff": {**BO, "attempts_min": 2}}, {"detects_dead_peer": {"by": "client", "within": "4s"}}, client=n, duration="16s", timeline=OUT, s={"heartbeat": None})
# several connections
case("m01-two-feeds", "PASS", REC, bo(attempts_min=2), {"delivers": {"lost": 6}}, "no_leaks", {"availability": {"at_least": 0.5}}, client="TwoFeedsClient", server="TwoFeedsServer")
case("m01b-two-feeds-hole", "PASS", {"reconnects": {"after": "cut", "within": "5s"}}, {"detects_dead_peer": {"during": "cut", "within": "4s"}}, bo(attempts_min=2), client="TwoFeedsClient", server="TwoFeedsServer", duration="16s", timeline=[{"at": "3s", "for": "5s", "fault": "blackhole", "name": "cut"}])
case("m02-rotating", "PASS", {"delivers": {"lost": 1}}, bo(attempts_min=2), "no_leaks", {"no_false_alarm": {"by": "server"}}, {"availability": {"at_least": 0.9}}, client="Rotating", timeline=NOOP, duration="14s")
case("m02b-rotating-reset", "PASS", REC, {"delivers": {"lost": 4}}, bo(attempts_min=2), "no_leaks", client="Rotating", duration="14s", timeline=[{"at": "4s", "fault": "reset", "name": "cut"}, {"at": "4s", "for": "4s", "fault": "refuse", "name": "no"}], s={}, )
build.ROWS.pop(); case("m02b-rotating-reset", "PASS", {"reconnects": {"after": "no", "within": "3s"}}, bo(attempts_min=2), "no_leaks", client="Rotating", duration="14s", timeline=[{"at": "4500ms", "fault": "reset", "name": "cut"}, {"at": "4500ms", "for": "4s", "fault": "refuse", "name": "no"}])
case("m03-rotating-plain", "PASS", bo(attempts_min=2), "no_leaks", "single_connection", {"no_false_alarm": {"by": "server"}}, client="RotatingPlain", timeline=NOOP, duration="14s")
# application heartbeats
APP = {"heartbeat": {"interval": "1s", "timeout": "2s"}}
HOLE = [{"at": "4s", "for": "7s", "fault": "blackhole", "name": "hole"}]
case("h01-phoenix", "PASS", {"detects_dead_peer": {"by": "client", "within": "4s"}}, {"detects_dead_peer": {"by": "server", "within": "7s"}}, {"reconnects": {"within": "5s"}}, bo(attempts_min=2), "no_leaks", "no_false_alarm", client="PhoenixClient", server="PhoenixServer", timeline=HOLE, duration="18s")
case("h02-phoenix-no-reply", "PASS", {"no_false_alarm": {"by": "client"}}, client="PhoenixClient", server="PhoenixServerStopsReplying", timeline=NOOP, duration="16s")
case("h02b-phoenix-no-reply", "FAIL", {"no_false_alarm": {"by": "server"}}, client="PhoenixClient", server="PhoenixServerStopsReplying", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h03-phoenix-no-beat", "FAIL", {"no_false_alarm": {"by": "client"}}, client="PhoenixStopsBeating", server="PhoenixServer", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h03b-phoenix-no-beat", "PASS", {"no_false_alarm": {"by": "server"}}, client="PhoenixStopsBeating", server="PhoenixServer", timeline=NOOP, duration="16s")
case("h04-engine", "PASS", {"detects_dead_peer": {"by": "client", "within": "4s"}}, {"detects_dead_peer": {"by": "server", "within": "4s"}}, {"reconnects": {"within": "5s"}}, bo(attempts_min=2), "no_leaks", "no_false_alarm", client="EngineClient", server="EngineIO", timeline=HOLE, duration="18s", workload=BOTH)
case("h05-engine-forgets", "FAIL", {"no_false_alarm": {"by": "client"}}, client="EngineClientForgets", server="EngineIO", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h05b-engine-forgets", "PASS", {"no_false_alarm": {"by": "server"}}, client="EngineClientForgets", server="EngineIO", timeline=NOOP, duration="16s")
case("h05c-engine-forgets-sends", "PASS", {"no_false_alarm": {"by": "server"}}, client="EngineClientForgets", server="EngineIO", timeline=NOOP, duration="16s", workload=BOTH)
case("h05d-engine-forgets-cut", "PASS", {"no_false_alarm": {"by": "server"}}, client="EngineClientForgets", server="EngineIOCuts", timeline=NOOP, duration="16s")
case("h06-engine-server-stops", "PASS", {"no_false_alarm": {"by": "client"}}, client="EngineClient", server="EngineServerStops", timeline=NOOP, duration="16s")
case("h06b-engine-server-stops", "FAIL", {"no_false_alarm": {"by": "server"}}, client="EngineClient", server="EngineServerStops", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h07-feed-stalls", "PASS", {"no_false_alarm": {"by": "client"}}, client="DataWatch", server="FeedStalls", timeline=NOOP, duration="16s")
case("h07b-feed-stalls", "FAIL", {"no_false_alarm": {"by": "server"}}, client="DataWatch", server="FeedStalls", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h08-pings-stop", "PASS", {"no_false_alarm": {"by": "client"}}, client="PingWatch", server="PingsStop", timeline=NOOP, duration="16s")
case("h08b-pings-stop", "FAIL", {"no_false_alarm": {"by": "server"}}, client="PingWatch", server="PingsStop", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h09-late-pongs", "PASS", {"no_false_alarm": {"by": "client"}}, server="LatePongs", timeline=NOOP, duration="16s")
case("h09b-late-pongs", "FAIL", {"no_false_alarm": {"by": "server"}}, server="LatePongs", timeline=NOOP, duration="16s", fails="no_false_alarm")
case("h10-cuts", "PASS", {"no_false_alarm": {"by": "client"}}, server="CutsAtRandom", timeline=NOOP, duration="14s")
case("h10b-cuts", "FAIL", {"no_false_alarm": {"by": "server"}}, server="CutsAtRandom", timeline=NOOP, duration="14s", fails="no_false_alarm")
case("h11-cuts-itself", "PASS", {"no_false_alarm": {"by": "server"}}, client="CutsItself", timeline=NOOP, duration="14s")
case("h11b-cuts-itself", "FAIL", {"no_false_alarm": {"by": "client"}}, client="CutsItself", timeline=NOOP, duration="14s", fails="no_false_alarm")
case("h12-bad-text", "PASS", {"no_false_alarm": {"by": "server"}}, client="BadTextClient", timeline=NOOP, duration="14s", workload=BOTH)
case("h12b-bad-text", "FAIL", {"no_false_alarm": {"by": "client"}}, client="BadTextClient", timeline=NOOP, duration="14s", workload=BOTH, fails="no_false_alarm")
case("h13-idle-closer", "PASS", {"no_false_alarm": {"by": "client"}}, bo(attempts_min=2), "no_leaks", server="IdleCloser", timeline=NOOP, duration="14s")
# silence
TEN = {"count": 10}
case("s01-one-of-ten", "FAIL", {"delivers": {"duplicated": 0}}, client="OneOfTenSilent", c=TEN, workload=BOTH, fails="")
case("s02-one-of-ten-stops", "FAIL", {"delivers": {"duplicated": 0}}, client="OneOfTenStops", c=TEN, workload=BOTH, fails="delivers")
case("s02b-one-of-ten-stops", "FAIL", {"availability": {"at_least": 0.8}}, client="OneOfTenStops", c=TEN, workload=BOTH, fails="availability")
case("s03-forgets-ten", "FAIL", {"delivers": {"duplicated": 0}}, server="ForgetsTen", c=TEN, fails="delivers")
case("s03b-forgets-ten", "FAIL", {"availability": {"at_least": 0.8}}, server="ForgetsTen", c=TEN, fails="availability")
case("s04-handles-nothing", "FAIL", {"availability": {"at_least": 0.8}}, client="HandlesNothingOnTen", c=TEN, fails="availability")
case("s04b-handles-nothing", "FAIL", {"delivers": {"lost": 40}}, client="HandlesNothingOnTen", c=TEN, fails="", timeline=NOOP)
case("s05-burst", "FAIL", {"delivers": {"duplicated": 0}}, client="BurstThenSilent", workload=BOTH, timeline=NOOP, fails="delivers")
case("s05b-burst", "FAIL", {"availability": {"at_least": 0.8}}, client="BurstThenSilent", workload=BOTH, timeline=NOOP, fails="availability")
case("s06-batches", "PASS", REC, {"availability": {"at_least": 0.8}}, {"delivers": {"lost": 4}}, server="Batches500")
for i, ev in enumerate(("250ms", "900ms", "1s", "1500ms", "3s")):
    case(f"s07{'abcde'[i]}-ticker", "PASS", REC, {"availability": {"at_least": 0.6}}, {"delivers": {"duplicated": 0}}, server="GlobalTicker", workload=[{"from": "server", "every": ev}], duration="20s", c=TEN, timeline=[{"at": "8s", "fault": "reset", "name": "cut"}])
    case(f"s08{'abcde'[i]}-ticker-slow", "PASS", {"reconnects": {"after": "cut", "within": "6s"}}, {"availability": {"at_least": 0.5}}, {"delivers": {"duplicated": 0}}, server="GlobalTicker", workload=[{"from": "server", "every": ev}], duration="20s", c={"count": 10, "connect_timeout": "4s"}, timeline=[{"at": "5s", "for": "15s", "toxic": "latency", "stream": "both", "attributes": {"latency": 300}}, {"at": "8s", "fault": "reset", "name": "cut"}])
case("s09-subscribes", "PASS", REC, {"availability": {"at_least": 0.7}}, {"delivers": {"lost": 4}}, client="Subscribes", server="SendsToSubscribers")
case("s10-subscribes-once", "FAIL", REC, client="SubscribesOnce", server="SendsToSubscribers", fails="reconnects")
case("s10b-subscribes-once", "FAIL", {"availability": {"at_least": 0.7}}, client="SubscribesOnce", server="SendsToSubscribers", fails="availability")
case("s10c-subscribes-once", "FAIL", {"delivers": {"duplicated": 0}}, client="SubscribesOnce", server="SendsToSubscribers", fails="delivers")
case("s11-echoes", "PASS", REC, {"availability": {"at_least": 0.7}}, {"delivers": {"lost": 4}}, "single_handler", client="Echoes", workload=BOTH)
case("s12-echoes-slow", "PASS", {"reconnects": {"after": "cut", "within": "5s"}}, {"availability": {"at_least": 0.5}}, {"delivers": {"duplicated": 0}}, client="Echoes", workload=BOTH, timeline=[{"at": "5s", "for": "15s", "toxic": "latency", "stream": "both", "attributes": {"latency": 300}}, {"at": "8s", "fault": "reset", "name": "cut"}], duration="20s")
# backoff
DOWN = [{"at": "3s", "for": "14s", "fault": "refuse", "name": "gone"}, {"at": "3s", "fault": "reset", "name": "cut"}]
case("b01-reconnecting-ws", "PASS", {"backoff": {"initial": "1s", "factor": 1.3, "max": "10s", "jitter": "none"}}, client="ReconnectingWebSocket", c={"backoff": {"initial": "1s", "factor": 1.3, "max": "10s", "jitter": "none"}}, timeline=DOWN, duration="30s")
HANG = [{"at": "3s", "for": "14s", "fault": "slow_accept", "delay": "30s", "name": "gone"}, {"at": "3s", "fault": "reset", "name": "cut"}]
for j in ("full", "equal", "none"):
    case(f"b02-grpc-{j}", "PASS", {"backoff": {"initial": "500ms", "factor": 2, "max": "4s", "jitter": j}}, client="GrpcLike", c={"backoff": {"initial": "500ms", "factor": 2, "max": "4s", "jitter": j}}, timeline=HANG, duration="30s")
    case(f"b03-grpc-refused-{j}", "PASS", {"backoff": {"initial": "500ms", "factor": 2, "max": "4s", "jitter": j}}, client="GrpcLike", c={"backoff": {"initial": "500ms", "factor": 2, "max": "4s", "jitter": j}}, timeline=DOWN, duration="30s")
for f in (2, 3):
    case(f"b04-decorrelated-{f}", "PASS", {"backoff": {"initial": "500ms", "factor": f, "max": "8s", "jitter": "decorrelated"}}, client="Decorrelated3", c={"backoff": {"initial": "500ms", "factor": f, "max": "8s", "jitter": "decorrelated"}}, timeline=DOWN, duration="40s")
AM = {"backoff": {"initial": "500ms", "factor": 2, "max": "1s", "attempts_max": 4}}
FOREVER = [{"at": "3s", "fault": "refuse", "name": "gone"}, {"at": "3s", "fault": "reset", "name": "cut"}]
case("b05-leaves-at-max", "PASS", {"backoff": {"initial": "500ms", "factor": 2, "max": "1s", "attempts_min": 2}}, client="LeavesAfterMax", c=AM, timeline=FOREVER, duration="15s")
case("b06-leaves-early", "FAIL", {"backoff": {"initial": "500ms", "factor": 2, "max": "1s", "attempts_min": 2}}, client="LeavesTooEarly", c=AM, timeline=FOREVER, duration="15s", fails="subject_alive")
CUT = [{"at": "3s", "fault": "reset", "name": "cut"}]
def st(name, want, server, client="Right", *more, fails="", am=2, **k):
    case(name, want, bo(attempts_min=am), *more, client=client, server=server, timeline=CUT, duration=k.pop("duration", "14s"), fails=fails, **k)
st("r01-429", "PASS", "S429"); st("r02-429-told", "PASS", "S429Told", "Right", {"handshake": {"retry_after": True}}); st("r03-503-zero", "PASS", "S503Zero", "Right", {"handshake": {"retry_after": True}})
st("r04-401", "PASS", "S401", "ReturnsOnFinal"); st("r05-401-once", "PASS", "S401Once", "Right", REC); st("r06-403", "PASS", "S403", "ReturnsOnFinal"); st("r07-404", "PASS", "S404", "ReturnsOnFinal", am=2)
st("r08-426", "PASS", "S426", "ReturnsOnFinal"); st("r09-500", "PASS", "S500"); st("r10-502", "PASS", "S502"); st("r11-200", "PASS", "S200")
st("r12-302", "PASS", "S302", "Follows", REC); st("r13-307", "PASS", "S307", "Follows", REC); st("r14-302-loop", "FAIL", "S302Loop", "FollowsForEver", fails="backoff"); st("r15-302-three", "PASS", "S302Three", "Follows", REC)
st("r16-302-not", "PASS", "S302Three", "Right")
for i in range(16): st(f"r2{i:02}-odd-retry", "NOCRASH", f"Odd{i}", "Right", {"handshake": {"retry_after": True}})
REJ = [{"at": "3s", "fault": "reset", "name": "cut"}]
case("r17-skewed", "PASS", {"handshake": {"retry_after": True}}, {"backoff": {**BO, "attempts_min": 2}}, client="WaitsByServersClock", server="SkewedDateTwice", timeline=REJ, duration="16s")
case("r18-skewed-back", "PASS", {"handshake": {"retry_after": True}}, {"backoff": {**BO, "attempts_min": 2}}, client="WaitsByServersClock", server="SkewedBackTwice", timeline=REJ, duration="16s")
# exits
for n in ("SysExit", "Interrupts", "OwnBase", "GenExit", "StopIt", "Group", "CancelsAll"):
    case("x-" + n.lower(), "FAIL", REC, client=n, fails="subject_alive")
case("x-oddreports", "NOCRASH", REC, {"delivers": {"duplicated": 0}}, "single_handler", bo(attempts_min=2), client="OddReports")
case("x-felt", "NOCRASH", REC, {"delivers": {"duplicated": 0}}, "single_connection", client="FeltByReport")
# actions
ACT = [{"at": "3s", "action": "close", "by": "server", "code": 1012, "clients": [2], "name": "cut"}]
case("k01-tells", "PASS", REC, "no_false_alarm", {"close_code": {"by": "server", "code": 1012}}, client="Right", server="TellsClients", c={"count": 3}, timeline=ACT)
case("k02-tells-wrong", "FAIL", REC, "no_false_alarm", client="Right", server="TellsWrongClients", c={"count": 3}, timeline=ACT, fails="no_false_alarm")
case("k03-not-declared", "REFUSED", REC, c={"count": 3}, timeline=ACT)
for a, t in {"offline": {"for": "2s"}, "crash": {}, "restart": {"for": "2s"}, "close": {"code": 1001}, "send": {"size": 5000}}.items():
    case(f"k04-{a}", "PASS", *([{"reconnects": {"after": "cut", "within": "4s"}}] if a not in ("send", "crash") else []), "no_false_alarm", "no_leaks", {"availability": {"at_least": 0.3}}, c={"count": 3}, timeline=[{"at": "3s", "action": a, "by": "client", "clients": [2], "name": "cut", **t}], workload=BOTH)
# who cannot send or report
C = {"client": "plain_client"}
case("n01-plain-client", "PASS", REC, {"delivers": {"lost": 0}}, "single_handler", "no_leaks", bo(attempts_min=2), client="plain_client", workload=BOTH)
case("n02-plain-client-only", "PASS", REC, {"delivers": {"lost": 0}}, "no_leaks", {"availability": {"at_least": 0.5}}, client="plain_client", workload=[{"from": "client", "every": "250ms"}])
case("n03-plain-both", "PASS", REC, {"delivers": {"lost": 0}}, "no_leaks", {"availability": {"at_least": 0.5}}, "single_connection", client="plain_client", server="plain_server", workload=BOTH)
case("n04-plain-both-none", "PASS", REC, "no_leaks", {"availability": {"at_least": 0.5}}, "single_connection", client="plain_client", server="plain_server", workload=None)
build.ROWS.pop(); case("n04-plain-both-none", "PASS", REC, "no_leaks", {"availability": {"at_least": 0.5}}, "single_connection", client="plain_client", server="plain_server", workload=[])
case("n05-ref-client-plain-server", "PASS", REC, "no_leaks", {"availability": {"at_least": 0.5}}, {"delivers": {"lost": 5}}, client="reference:", server="plain_server", workload=BOTH)
p = HERE / "n05-ref-client-plain-server.yaml"; d = json.loads(p.read_text()); d["client"].pop("use"); p.write_text(json.dumps(d))
case("n06-plain-client-ref", "PASS", REC, "no_leaks", {"delivers": {"lost": 5}}, "single_handler", client="plain_client", server="x:", workload=BOTH)
p = HERE / "n06-plain-client-ref.yaml"; d = json.loads(p.read_text()); d["server"].pop("use"); p.write_text(json.dumps(d))
case("n07-only-inapplicable", "SKIPPED", {"delivers": {"lost": 0}}, client="plain_client", server="plain_server", workload=BOTH)
case("n08-no-expect", "REFUSED", expect=[]); 
# leaks
CYC = [{"at": "2s", "every": "1500ms", "times": 8, "fault": "reset", "name": "cuts"}]
FAST = {"backoff": {"initial": "200ms", "factor": 1, "max": "200ms"}}
for n, want in {"AnyioChannels": "FAIL", "StdPairs": "FAIL", "Threads": "PASS", "LeavesEverySecond": "FAIL", "BoundedHistory": "PASS"}.items():
    case("l-" + n.lower(), want, {"no_leaks": {"cycles": 6}}, client=n, timeline=CYC, duration="18s", c=FAST, fails="no_leaks" if want == "FAIL" else "")
    case("l-" + n.lower() + "-server", "PASS", {"no_leaks": {"by": "server"}}, client=n, timeline=CYC, duration="18s", c=FAST)
for n in ("KeepsAnyio", "SystemTasks"):
    case("l-" + n.lower(), "FAIL", {"no_leaks": {"cycles": 6}}, server=n, timeline=CYC, duration="18s", c=FAST, fails="no_leaks")
    case("l-" + n.lower() + "-client", "PASS", {"no_leaks": {"by": "client"}}, server=n, timeline=CYC, duration="18s", c=FAST)
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
# ---- second batch
def c2(name, want, *e, client="subj.py:Right", server="subj.py:RightServer", **k):
    case(name, want, *e, client=client if ":" in client else "subj2.py:" + client, server=server if ":" in server else "subj2.py:" + server, **k)
c2("k05-tells-after", "PASS", REC, {"close_code": {"after": "cut", "by": "server", "code": 1012}}, server="subj.py:TellsClients", c={"count": 3}, timeline=ACT)
c2("k06-client-close-2", "PASS", {"close_code": {"after": "cut", "by": "client", "code": 1001}}, "no_false_alarm", c={"count": 3}, timeline=[{"at": "3s", "action": "close", "by": "client", "clients": [2], "name": "cut", "code": 1001}])
c2("d01-on-demand", "PASS", bo(attempts_min=2), {"no_false_alarm": {"by": "client"}}, client="OnDemand", server="ClosesIdle", timeline=NOOP, duration="20s", s={"heartbeat": None})
c2("d02-replays", "PASS", REC, {"delivers": {"lost": 0, "duplicated": 0}}, "single_handler", client="Dedups", server="Replays")
c2("d03-pool", "PASS", REC, bo(attempts_min=3), "no_leaks", client="TimedOpen", timeline=[{"at": "3s", "fault": "reset", "name": "cut"}, {"at": "7s", "fault": "reset", "name": "cut2"}], duration="14s")
c2("d04-pool-broadcast", "PASS", REC, bo(attempts_min=3), "no_leaks", {"delivers": {"lost": 8}}, client="TimedOpen", server="AllWires", timeline=[{"at": "3s", "fault": "reset", "name": "cut"}, {"at": "7s", "fault": "reset", "name": "cut2"}], duration="14s")
for n in ("NoReason", "OldHttp", "LongHead", "HugeHead", "Utf8Head", "ListConn", "NoConn", "NoUpgrade", "TwoUpgrades", "Fold", "EmptyProto", "EmptyExt", "ExtNotOffered", "Body101", "BadLine", "SpaceName", "Status1", "Status999", "StatusTxt", "Garbage", "Ssh", "LfOnly"):
    want = "PASS" if n in ("NoReason", "LongHead", "HugeHead", "Utf8Head", "ListConn", "Body101") else "NOCRASH"
    c2("e-" + n.lower(), want, REC, {"delivers": {"lost": 4}}, "single_handler", client="LenientClient", server=n)
for n in ("AnswerProto",): c2("e-" + n.lower(), "PASS", REC, client="OfferProto", server=n)
for n in ("AnswerProtoCase", "AnswerTwoProto"): c2("e-" + n.lower(), "NOCRASH", REC, client="OfferProto", server=n)
for i in range(18):
    for cl in ("OfferDeflate", "OfferDeflate10"):
        c2(f"f{i:02}-{cl.lower()}", "PASS" if i in (0, 1) and cl == "OfferDeflate" or (i in (10,) and cl == "OfferDeflate") else "NOCRASH", REC, {"delivers": {"lost": 4}}, client=cl, server=f"Ext{i}")
for i in range(18): c2(f"g{i:02}-frame", "PASS" if i not in (0,1,2,4,8,9,10,11,14,15,17) else "NOCRASH", {"reconnects": {"after": "cut", "within": "3s"}}, "single_handler", {"no_false_alarm": {}}, server=f"Frm{i}", timeline=[{"at": "4s", "fault": "reset", "name": "cut"}])
for i in range(13):
    c2(f"i{i:02}-bad", "PASS", {"no_false_alarm": {"by": "client"}}, server=f"Bad{i}", timeline=NOOP)
    c2(f"i{i:02}-bad-s", "FAIL", {"no_false_alarm": {"by": "server"}}, server=f"Bad{i}", timeline=NOOP, fails="no_false_alarm")
for i in range(10):
    c2(f"j{i:02}-cbad", "PASS", {"no_false_alarm": {"by": "server"}}, client=f"CBad{i}", timeline=NOOP)
    c2(f"j{i:02}-cbad-c", "FAIL", {"no_false_alarm": {"by": "client"}}, client=f"CBad{i}", timeline=NOOP, fails="no_false_alarm")
SID = r'"id": ?(\d+)'
for nm, wl in {"sio": SID, "sr": "/arguments/0/id", "srb": SID, "mq": "^.{5}(?P<big>.{8})"}.items():
    W = [{"from": "server", "every": "250ms", "id": wl}]
    cl, sv = {"sio": ("SioClient", "SioServer"), "sr": ("SrClient", "SrServer"), "srb": ("SrClient", "SrBatch"), "mq": ("MqClient", "MqServer")}[nm]
    c2(f"q-{nm}", "PASS", REC, {"delivers": {"lost": 5, "duplicated": 0}}, "single_handler", {"availability": {"at_least": 0.7}}, client=cl, server=sv, workload=W)
c2("q-sio-twice", "FAIL", REC, "single_handler", client="SioHandlesTwice", server="SioServer", workload=[{"from": "server", "every": "250ms", "id": SID}], fails="single_handler")
c2("q-mq-twice", "FAIL", REC, "single_handler", client="MqHandlesTwice", server="MqServer", workload=[{"from": "server", "every": "250ms", "id": "^.{5}(?P<big>.{8})"}], fails="single_handler")
c2("d05-data-after-close", "PASS", {"no_false_alarm": {"by": "client"}}, server="DataAfterClose", timeline=NOOP)
for i, bad in enumerate(("(", "(\\d+)(\\d+)", "\\d+", "", "/~2", "/a/-/~", "(?P<big>)", "(?P<big>.)?(?P<little>.)", "(a+)+$|(\\d+)", "(?P<big>.*)", "\\", "/", "(?i)(\\d+)", "(\\w+)", "(?P<x>\\d)?")):
    c2(f"u{i:02}-ids", "NOCRASH", REC, "single_handler", {"delivers": {"lost": 5}}, workload=[{"from": "server", "every": "250ms", "id": bad}])
c2("h14-feed-stalls-noping", "PASS", {"no_false_alarm": {"by": "client"}}, client="subj.py:DataWatch", server="subj.py:FeedStalls", timeline=NOOP, duration="16s", s={"heartbeat": None})
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))

c2("t01-list-id", "NOCRASH", REC, "single_handler", client="ListId")
c2("t02-keeps-dead", "FAIL", "single_connection", client="KeepsDeadSocket", duration="18s", timeline=[{"at": "4s", "for": "4s", "fault": "blackhole", "name": "cut"}], fails="single_connection")
c2("t02b-keeps-dead", "FAIL", "no_leaks", client="KeepsDeadSocket", duration="18s", timeline=[{"at": "4s", "for": "4s", "fault": "blackhole", "name": "cut"}], fails="no_leaks")
LAT = [{"at": "2s", "for": "1s", "toxic": "latency", "attributes": {"latency": 50}, "stream": "both", "name": "slow"}]
for nm, tl in {"noop": [{"at": "2s", "for": "1s", "toxic": "noop", "name": "slow"}], "lat": LAT, "stall": [{"at": "2s", "for": "1s", "fault": "stall", "name": "slow"}], "delay": [{"at": "2s", "for": "1s", "fault": "delay_frames", "opcodes": ["ping", "pong"], "delay": "10ms", "name": "slow"}]}.items():
    for who in ("client", "server"):
        k = {"client": "StopsAfterFive"} if who == "client" else {"server": "ServerStopsAfterFive"}
        c2(f"v-{nm}-{who}-del", "FAIL", {"delivers": {"duplicated": 0}}, workload=BOTH, timeline=tl, duration="20s", fails="delivers", **k)
        c2(f"v-{nm}-{who}-avail", "FAIL", {"availability": {"at_least": 0.9}}, workload=BOTH, timeline=tl, duration="20s", fails="availability", **k)
c2("t03-all-sent", "PASS", {"delivers": {"sent_at_least": 1.0}}, workload=BOTH)
c2("t04-skew", "PASS", {"handshake": {"retry_after": True}}, {"backoff": {**BO, "attempts_min": 2}}, client="subj.py:WaitsByServersClock", server="SkewedSome", duration="16s")
c2("t05-wrong-pointer", "INCONCLUSIVE", {"delivers": {"lost": 5}}, workload=[{"from": "server", "every": "250ms", "id": "/data/id"}])
c2("t06-wrong-pointer-sh", "SKIPPED", "single_handler", workload=[{"from": "server", "every": "250ms", "id": "/data/id"}])
c2("t07-rotating-backoff-only", "PASS", bo(attempts_min=2), client="subj.py:Rotating", timeline=NOOP, duration="14s")
for i, pl in enumerate(({"foo": "now"}, {"4000": "banana"}, {"99999": "now"}, {"4000-4099": "backoff"}, {"4000": None}, {"0": "never"}, "nope", [], {"1006": "never"})):
    c2(f"w{i}-policy", "NOCRASH", REC, c={"policy": pl})
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
c2("y01-races", "PASS", bo(attempts_min=3), "no_leaks", client="RacesClient", timeline=DOWN, duration="30s")
c2("y02-races-hang", "PASS", {"reconnects": {"after": "cut", "within": "3s"}}, bo(attempts_min=3), "single_connection", "no_leaks", client="RacesClient", timeline=[{"at": "3s", "every": "3s", "times": 4, "fault": "reset", "name": "cut"}], duration="20s")
c2("y03-late-answer", "PASS", {"reconnects": {"after": "cut", "within": "3s"}}, {"availability": {"at_least": 0.7}}, {"delivers": {"lost": 8}}, "single_connection", server="LateAnswer", timeline=[{"at": "4s", "fault": "reset", "name": "cut"}])
c2("y04-second-tab", "PASS", bo(attempts_min=2), {"delivers": {"lost": 8}}, {"availability": {"at_least": 0.7}}, "no_leaks", client="RotatesOnNotice", server="AllWires", timeline=[{"at": "6s", "every": "3s", "times": 3, "fault": "reset", "name": "cut"}], duration="18s")
c2("y05-server-own-base", "FAIL", REC, server="ServerOwnBase", fails="subject_alive")
c2("y06-on-notice", "PASS", REC, "single_connection", bo(attempts_min=2), {"delivers": {"lost": 0}}, client="OnNotice", timeline=[{"at": "3s", "action": "close", "by": "server", "code": 1012, "name": "cut"}])
c2("y07-on-notice-repeated", "PASS", bo(attempts_min=2), {"delivers": {"lost": 0}}, client="OnNotice", timeline=[{"at": "3s", "every": "3s", "times": 4, "action": "close", "by": "server", "code": 1012, "name": "cut"}], duration="18s")
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
for n in ("Every1012", "Every1001", "Early1001"):
    c2("z-four-" + n.lower(), "FAIL", bo(attempts_min=2), client="AlwaysFour", server=n, timeline=NOOP, duration="30s", fails="backoff")
    c2("z-four-" + n.lower() + "-a", "FAIL", {"backoff": {**BO, "attempts_min": 2}}, client="AlwaysFour", server=n, timeline=[{"at": "12s", "fault": "reset", "name": "cut"}], duration="30s", fails="backoff")
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
c2("z1-four-idle", "FAIL", bo(attempts_min=2), client="AlwaysFour", server="ClosesIdle", timeline=NOOP, duration="30s", fails="backoff")
c2("z2-four-idle-nohb", "FAIL", bo(attempts_min=2), client="AlwaysFour", server="ClosesIdle", timeline=NOOP, duration="30s", fails="backoff", s={"heartbeat": None})
c2("z3-four-nohb", "FAIL", bo(attempts_min=2), client="AlwaysFour", server="Every1001", timeline=NOOP, duration="30s", fails="backoff", s={"heartbeat": None})
c2("z4-four-20s", "FAIL", bo(attempts_min=2), client="AlwaysFour", server="Every1001", timeline=NOOP, duration="20s", fails="backoff")
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
for i, n in enumerate(("Every1001at2", "Every1001at22", "ClosesIdle22")):
    c2(f"z5{i}-four", "FAIL", bo(attempts_min=2), client="AlwaysFour", server=n, timeline=NOOP, duration="20s", fails="backoff")
c2("z6-four", "FAIL", bo(attempts_min=2), client="AlwaysFour", server="ClosesIdle", timeline=[{"at": "1500ms", "toxic": "noop", "for": "2s"}], duration="20s", fails="backoff")
c2("z7-four", "FAIL", {"backoff": {**BO, "after": "calm", "attempts_min": 2}}, client="AlwaysFour", server="Every1001at2", timeline=[{"at": "1500ms", "toxic": "noop", "for": "2s", "name": "calm"}], duration="20s", fails="backoff")
(HERE / "expected.tsv").write_text("".join("\t".join(r) + "\n" for r in build.ROWS))
