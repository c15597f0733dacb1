/* Browsers start no worker from a page that was opened from the disk, and the search needs one.
   There its program runs in a frame instead, which answers to the same two words. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.addEventListener("load", () => this.start(frame.contentWindow, address), { once: true });
      document.body.append(frame); /* an empty frame is loaded at once */
    }
    start(inside, address) {
      this.inside = inside;
      /* what the program sends goes to the page, not into its own frame */
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = address;
      script.onload = () => {
        this.waiting.forEach((data) => this.send(data));
        this.waiting = null;
      };
      inside.document.body.append(script);
    }
    postMessage(data) {
      this.waiting ? this.waiting.push(data) : this.send(data);
    }
    send(data) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }
  };
}
