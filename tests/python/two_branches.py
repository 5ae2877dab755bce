"""Drives whole transactions as application and as participant, from the .proto files alone.

There is nothing of Pactum's SDK here: stubs are generated from proto/pactum/v1, and two participants
of one toy resource each attach, enlist, vote, commit and abort by hand. Whoever writes an SDK in
another language can start from this file.

Usage: two_branches.py PROTO_DIR STUB_DIR ADDRESS
Prints one line `ok: CLAIM` per claim that held, and fails at the first that does not.
"""

import queue
import sys
import threading
import uuid
from pathlib import Path

from grpc_tools import protoc

DEADLINE = 30  # seconds, for every wait: generous, since the machine may be busy


def generate(proto_dir, stub_dir):
    Path(stub_dir).mkdir(parents=True, exist_ok=True)
    files = [f"pactum/v1/{name}.proto" for name in ("types", "transactions", "participants", "admin")]
    well_known = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        ["protoc", f"-I{proto_dir}", f"-I{well_known}", f"--python_out={stub_dir}", f"--grpc_python_out={stub_dir}"]
        + files
    )
    assert code == 0, "the .proto files do not compile"
    sys.path.insert(0, str(stub_dir))


generate(sys.argv[1], sys.argv[2])

import grpc  # noqa: E402
from google.rpc import error_details_pb2  # noqa: E402
from grpc_status import rpc_status  # noqa: E402
from pactum.v1 import participants_pb2 as p  # noqa: E402
from pactum.v1 import participants_pb2_grpc, transactions_pb2_grpc  # noqa: E402
from pactum.v1 import transactions_pb2 as t  # noqa: E402
from pactum.v1 import types_pb2 as types  # noqa: E402


def ok(claim):
    print(f"ok: {claim}", flush=True)


def key(message):
    """The branch that a message is about."""
    return message.id.gid, message.branch.id


class Participant:
    """One resource in one process: attached, and asked for every message it got."""

    def __init__(self, channel, resource):
        self.resource = resource
        self.instance = uuid.uuid4().bytes
        self.outgoing = queue.Queue()
        self.incoming = queue.Queue()
        self.calls = 0
        # What was answered to each branch: every message may come twice or late, and is answered the
        # same each time.
        self.prepared, self.votes, self.ends = set(), {}, {}
        hello = p.Hello(
            instance=self.instance,
            resources=[p.Registration(resource=resource, identity=f"toy:{resource}")],
            version="two_branches.py",
        )
        self.send(hello=hello)
        stub = participants_pb2_grpc.ParticipantsServiceStub(channel)
        self.stream = stub.Attach(iter(self.outgoing.get, None))
        threading.Thread(target=self.read, daemon=True).start()
        self.welcome = self.expect("welcome")

    def read(self):
        try:
            for batch in self.stream:
                for message in batch.messages:
                    self.incoming.put(message)
        except grpc.RpcError as error:
            self.incoming.put(error)

    def send(self, **message):
        self.outgoing.put(p.AttachRequest(messages=[p.ParticipantMessage(**message)]))

    def is_repeat(self, message):
        """Whether it came before; then it is answered as before."""
        kind = message.WhichOneof("message")
        if kind == "welcome":
            return True
        body = getattr(message, kind)
        if kind == "prepare" and key(body) in self.prepared:
            if key(body) in self.votes:
                self.send(vote=self.votes[key(body)])
            return True
        if kind in ("commit", "abort") and key(body) in self.ends:
            self.send(finished=self.ends[key(body)])
            return True
        return False

    def expect(self, kind):
        """The next message that is no repeat, which must be of that kind."""
        while True:
            message = self.incoming.get(timeout=DEADLINE)
            assert not isinstance(message, grpc.RpcError), message
            got = message.WhichOneof("message")
            if kind != "welcome" and self.is_repeat(message):
                continue
            assert got == kind, f"{self.resource} expected {kind} and got {message}"
            body = getattr(message, kind)
            if kind == "prepare":
                self.prepared.add(key(body))
            return body

    def enlist(self, transaction, branch_id):
        branch = types.Branch(id=branch_id, resource=self.resource, instance=self.instance)
        self.calls += 1
        enlist = p.Enlist(call_id=self.calls, id=transaction, branch=branch)
        enlist.time_left.seconds = DEADLINE
        self.send(enlist=enlist)
        answer = self.expect("enlist_answer")
        assert answer.call_id == self.calls
        return branch, (answer.error if answer.HasField("error") else None)

    def vote_yes(self, prepare, execution):
        evidence = types.Evidence(execution=execution)
        self.vote(p.Vote(id=prepare.id, branch=prepare.branch, commit=evidence))

    def vote_no(self, prepare, message):
        reason = types.AbortReason(kind=types.ABORT_KIND_VOTED_NO, message=message)
        self.vote(p.Vote(id=prepare.id, branch=prepare.branch, abort=reason))

    def vote(self, vote):
        self.votes[key(vote)] = vote
        self.send(vote=vote)

    def finish(self, decision, outcome):
        finished = p.Finished(id=decision.id, branch=decision.branch, outcome=outcome)
        self.ends[key(decision)] = finished
        self.send(finished=finished)

    def quiet(self):
        """Whether nothing came but repeats."""
        while not self.incoming.empty():
            message = self.incoming.get()
            if isinstance(message, grpc.RpcError) or not self.is_repeat(message):
                return False
        return True


def begin(application):
    details = types.Details(name="transfer", labels={"order": "4711"})
    return application.Begin(t.BeginRequest(details=details), timeout=DEADLINE).id


def error_info(error):
    """The google.rpc.ErrorInfo of an error: the reason and the code that never change."""
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    raise AssertionError(f"no ErrorInfo in {error}")


def main(address):
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=DEADLINE)
    application = transactions_pb2_grpc.TransactionsServiceStub(channel)
    a, b = Participant(channel, "toy-a"), Participant(channel, "toy-b")
    assert a.welcome.cluster and len(a.welcome.incarnation) == 16
    ok("a participant attaches and is welcomed")

    # Two branches, both vote yes.
    transaction = begin(application)
    (branch_a, none_a), (branch_b, none_b) = a.enlist(transaction, 1), b.enlist(transaction, 2)
    assert none_a is None and none_b is None
    again, none_again = a.enlist(transaction, 1)
    assert none_again is None and again == branch_a
    ok("enlisting is repeatable")
    request = t.CommitRequest(id=transaction, branches=[branch_a, branch_b])
    commit = application.Commit.future(request, timeout=DEADLINE)
    prepare_a, prepare_b = a.expect("prepare"), b.expect("prepare")
    assert prepare_a.branch == branch_a and prepare_b.branch == branch_b and not prepare_a.one_phase
    a.vote_yes(prepare_a, "x1")
    state = application.GetTransaction(t.GetTransactionRequest(id=transaction), timeout=DEADLINE).outcome.state
    assert state == types.OUTCOME_STATE_PENDING
    assert a.quiet() and b.quiet() and not commit.done()
    ok("with one vote missing nothing is decided")
    b.vote_yes(prepare_b, "x2")
    commit_a, commit_b = a.expect("commit"), b.expect("commit")
    assert commit_a.evidence.execution == "x1" and commit_b.evidence.execution == "x2"
    ok("both get Commit, each for the execution that voted")
    a.finish(commit_a, types.BRANCH_OUTCOME_COMMITTED)
    b.finish(commit_b, types.BRANCH_OUTCOME_COMMITTED)
    outcome = commit.result(timeout=DEADLINE).outcome
    assert outcome.state == types.OUTCOME_STATE_COMMITTED and not outcome.unfinished, outcome
    ok("the application hears committed")
    assert application.Commit(request, timeout=DEADLINE).outcome.state == types.OUTCOME_STATE_COMMITTED
    ok("a repeated Commit has the same answer")

    # One votes no: the other is aborted.
    transaction = begin(application)
    branch_a, branch_b = a.enlist(transaction, 1)[0], b.enlist(transaction, 2)[0]
    request = t.CommitRequest(id=transaction, branches=[branch_a, branch_b])
    commit = application.Commit.future(request, timeout=DEADLINE)
    a.vote_yes(a.expect("prepare"), "x3")
    b.vote_no(b.expect("prepare"), "not enough money")
    a.finish(a.expect("abort"), types.BRANCH_OUTCOME_ABORTED)
    outcome = commit.result(timeout=DEADLINE).outcome
    assert outcome.state == types.OUTCOME_STATE_ABORTED, outcome
    assert outcome.reason.kind == types.ABORT_KIND_VOTED_NO and "not enough money" in outcome.reason.message
    ok("a no vote aborts the other branch and comes with its reason")
    late, error = a.enlist(transaction, 3)
    assert error is not None and error.code == grpc.StatusCode.ABORTED.value[0] and error.pactum_code
    ok("enlisting in a transaction that has ended is refused with its code")

    # A branch that joins after commit was asked.
    transaction = begin(application)
    branch_a = a.enlist(transaction, 1)[0]
    commit = application.Commit.future(
        t.CommitRequest(id=transaction, branches=[branch_a], wait=types.WAIT_DECISION), timeout=DEADLINE
    )
    prepare_a = a.expect("prepare")
    late, error = b.enlist(transaction, 2)
    assert error.reason == "COMMIT_ALREADY_ASKED" and error.pactum_code.startswith("PACTUM-"), error
    ok("enlisting after commit was asked is refused")
    a.vote_yes(prepare_a, "x4")
    a.finish(a.expect("commit"), types.BRANCH_OUTCOME_COMMITTED)
    assert commit.result(timeout=DEADLINE).outcome.state == types.OUTCOME_STATE_COMMITTED

    # The application aborts.
    transaction = begin(application)
    branch_a = a.enlist(transaction, 1)[0]
    abort = application.Abort.future(t.AbortRequest(id=transaction, branches=[branch_a]), timeout=DEADLINE)
    a.finish(a.expect("abort"), types.BRANCH_OUTCOME_ABORTED)
    assert abort.result(timeout=DEADLINE).outcome.state == types.OUTCOME_STATE_ABORTED
    ok("the application aborts")

    # Wrong input.
    try:
        application.Commit(t.CommitRequest(id=types.TransactionId(gid=b"short")), timeout=DEADLINE)
        raise AssertionError("a malformed gid was taken")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        info = error_info(error)
        assert info.reason == "INVALID_ARGUMENT" and info.metadata["code"] == "PACTUM-0001", info
    ok("a malformed gid is refused with its code")
    assert a.quiet() and b.quiet()
    ok("nobody got a message that was not owed to him")


main(sys.argv[3])
