// socket.js: a WebSocket that does what a test says, for what runtimes do differently. It has the bad manners of two: like
// undici it answers the close of an unopened socket with `error`, like ws it throws an error that nobody listens to.

/** A class to give to `connect`; `all` are its sockets, in the order of the dials. */
export function scripted() {
  return class Scripted {
    static all = [];
    readyState = 0;
    sent = [];
    onopen = null;
    onmessage = null;
    onerror = null;
    onclose = null;

    constructor(url, protocols) {
      this.protocols = protocols;
      Scripted.all.push(this);
    }

    open() {
      this.readyState = 1;
      this.onopen?.({});
    }

    receive(frame) {
      this.onmessage?.({ data: JSON.stringify(frame) });
    }

    fail() {
      if (!this.onerror) throw new Error("an error that nobody listens to");
      this.onerror({});
    }

    end(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      const unopened = this.readyState === 0;
      this.readyState = 2;
      if (unopened) this.fail();
    }
  };
}
