CREATE TABLE approvals (
	id TEXT NOT NULL,
	version INTEGER NOT NULL,
	state TEXT NOT NULL,
	issuer TEXT NOT NULL,
	subject TEXT NOT NULL,
	run TEXT NOT NULL,
	connection TEXT NOT NULL,
	session TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	title TEXT NOT NULL,
	text TEXT NOT NULL,
	rules_version TEXT NOT NULL,
	requirements TEXT NOT NULL,
	scopes TEXT NOT NULL,
	groups TEXT NOT NULL,
	actors TEXT NOT NULL,
	headers TEXT NOT NULL,
	facts TEXT NOT NULL,
	process TEXT NOT NULL,
	epoch TEXT NOT NULL,
	scope TEXT NOT NULL,
	decided_by TEXT NOT NULL,
	comment TEXT NOT NULL,
	outlives BOOLEAN NOT NULL,
	waiters INTEGER NOT NULL,
	uses INTEGER NOT NULL,
	created_at FLOAT NOT NULL,
	deadline FLOAT NOT NULL,
	ends_at FLOAT NOT NULL,
	decided_at FLOAT NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE decisions (
	approval TEXT NOT NULL,
	issuer TEXT NOT NULL,
	subject TEXT NOT NULL,
	groups TEXT NOT NULL,
	verdict TEXT NOT NULL,
	scope TEXT NOT NULL,
	comment TEXT NOT NULL,
	at FLOAT NOT NULL,
	UNIQUE (approval, issuer, subject),
	FOREIGN KEY(approval) REFERENCES approvals (id) ON DELETE CASCADE
);
CREATE TABLE kills (
	session TEXT NOT NULL,
	kind TEXT NOT NULL,
	value TEXT NOT NULL,
	"by" TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (session)
);
CREATE TABLE ledger_heads (
	process TEXT NOT NULL,
	n INTEGER NOT NULL,
	head TEXT NOT NULL,
	final BOOLEAN NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (process)
);
CREATE TABLE locks (
	kind TEXT NOT NULL,
	value TEXT NOT NULL,
	"by" TEXT NOT NULL,
	reason TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (kind, value)
);
CREATE TABLE meta (
	"key" TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE revoked (
	token_id TEXT NOT NULL,
	expires_at FLOAT NOT NULL,
	"by" TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (token_id)
);
CREATE TABLE secrets (
	name TEXT NOT NULL,
	version INTEGER NOT NULL,
	key_id TEXT NOT NULL,
	wrap_nonce BLOB NOT NULL,
	wrapped_key BLOB NOT NULL,
	nonce BLOB NOT NULL,
	ciphertext BLOB NOT NULL,
	"by" TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE sessions (
	id TEXT NOT NULL,
	issuer TEXT NOT NULL,
	subject TEXT NOT NULL,
	connection TEXT NOT NULL,
	kind TEXT NOT NULL,
	process TEXT NOT NULL,
	peer TEXT NOT NULL,
	run TEXT NOT NULL,
	token_id TEXT NOT NULL,
	recording TEXT NOT NULL,
	reason TEXT NOT NULL,
	groups TEXT NOT NULL,
	operations INTEGER NOT NULL,
	denied INTEGER NOT NULL,
	held INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	opened_at FLOAT NOT NULL,
	active_at FLOAT NOT NULL,
	ended_at FLOAT,
	PRIMARY KEY (id)
);
CREATE TABLE tokens (
	digest TEXT NOT NULL,
	scram_verifier TEXT NOT NULL,
	principal_json TEXT NOT NULL,
	expires_at FLOAT NOT NULL,
	PRIMARY KEY (digest)
);
CREATE INDEX sessions_by_opening ON sessions (opened_at);
CREATE INDEX approvals_by_state ON approvals (state, created_at);
CREATE INDEX approvals_by_request ON approvals (issuer, subject, connection, fingerprint);
