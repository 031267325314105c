/*
 * What the plugin's status means to a person. In flow the status as the API tells it; out flow texts.
 * No document, no network.
 */
$(function () {
    window.MESBridge = window.MESBridge || {};

    /** How long an error lasts before it is called one, in ms: a bridge that restarts is nobody's business. */
    MESBridge.PATIENCE_MS = 30000;

    const KINDS = () => ({
        snapshot: gettext("Full picture"),
        state: gettext("State"),
        job_started: gettext("Print started"),
        job_paused: gettext("Print paused"),
        job_resumed: gettext("Print resumed"),
        job_ended: gettext("Print ended"),
        progress: gettext("Progress"),
        heaters: gettext("Temperatures"),
        filament_change: gettext("Filament change"),
        error: gettext("Printer error"),
        shutdown: gettext("Shutdown")
    });

    MESBridge.kind = (kind) => KINDS()[kind] || gettext("Other");

    const sum = (counts) => Object.values(counts || {}).reduce((total, count) => total + count, 0);

    /** "Progress: 12, Temperatures: 3", or "none". */
    MESBridge.counts = (counts) => {
        const byKind = {};
        for (const [name, count] of Object.entries(counts || {}))
            if (count > 0) byKind[MESBridge.kind(name)] = (byKind[MESBridge.kind(name)] || 0) + count;
        const told = Object.entries(byKind);
        if (!told.length) return gettext("none");
        return told
            .map(([kind, count]) =>
                _.sprintf(gettext("%(kind)s: %(count)d"), {kind: kind, count: count})
            )
            .join(", ");
    };

    /** The day too, unless it is today. */
    MESBridge.time = (text) => {
        const moment_ = moment(text);
        return moment_.isSame(moment(), "day") ? moment_.format("LTS") : moment_.format("L LTS");
    };

    MESBridge.ago = (text) => moment.min(moment(text), moment()).fromNow();

    MESBridge.bridgeName = (status, address) => {
        const bridge = status.bridge || {};
        return bridge.name || bridge.id || address || gettext("the bridge");
    };

    /** When and from where a key was used last. */
    MESBridge.used = (key) => {
        if (!key.last_used) return gettext("never used");
        return key.last_address
            ? _.sprintf(gettext("last used %(when)s by %(address)s"), {
                  when: MESBridge.ago(key.last_used),
                  address: key.last_address
              })
            : _.sprintf(gettext("last used %(when)s"), {when: MESBridge.ago(key.last_used)});
    };

    /** What is wrong now, in the plugin's words; "" when nothing is. */
    MESBridge.problem = (status) =>
        status.trouble || MESBridge.storageAdvice(status.storage || {}) || status.error || "";

    /** What to do about a disk that refuses events; "" when it does not. */
    MESBridge.storageAdvice = (storage) => {
        if (storage.full)
            return gettext("Printing goes on, and events are still sent; but those that wait are lost when OctoPrint ends. Make room on the disk of this OctoPrint.");
        if (!storage.error) return "";
        return _.sprintf(
            gettext("Printing goes on, and events are still sent; but those that wait are lost when OctoPrint ends. Check the disk of this OctoPrint, and whether its data folder can be written to (%(reason)s)."),
            {reason: storage.error}
        );
    };

    /**
     * One line that says how it stands, and one that says what to do: {level, headline, advice}. `level` is
     * "error", "warning", "info" or "success"; `saved` are the plugin's settings as the server has them.
     */
    MESBridge.summary = (status, saved) => {
        const told = (level, headline, advice) => ({level, headline, advice: advice || ""});
        const storage = status.storage || {};
        if (status.trouble && status.trouble === status.idle)
            return told("error", gettext("The address of the bridge is wrong"), status.idle);
        if (status.trouble)
            return told("error", gettext("The MES connection has a problem"), status.trouble);
        if (storage.full)
            return told(
                "error",
                gettext("The disk is full: events are kept in memory only"),
                MESBridge.storageAdvice(storage)
            );
        if (storage.error)
            return told(
                "error",
                gettext("The disk refuses events: they are kept in memory only"),
                MESBridge.storageAdvice(storage)
            );
        if (status.idle) return idle(status, saved, told);
        const previous = (status.key || {}).previous;
        if (status.connected && status.previous_key_in_use && previous)
            return told(
                "warning",
                gettext("Connected, but the bridge still has the key before"),
                _.sprintf(gettext("Take the new key to the bridge before %(time)s."), {
                    time: moment(previous.valid_until).format("L LT")
                })
            );
        if (status.connected)
            return told(
                "success",
                _.sprintf(gettext("Connected to %(bridge)s"), {
                    bridge: MESBridge.bridgeName(status, saved.bridge_url)
                }),
                arrived(status)
            );
        if (status.error)
            return told(
                "warning",
                gettext("Not connected; events are kept and sent later"),
                status.error
            );
        return told("info", gettext("Connecting ..."));
    };

    function arrived(status) {
        if (status.waiting) return gettext("What waited is being delivered.");
        return MESBridge.lost(status)
            ? gettext("What waited has arrived. What is lost or was left out is listed below.")
            : gettext("Everything that happened has arrived. There is nothing to do.");
    }

    function idle(status, saved, told) {
        if (!saved.enabled)
            return told(
                "info",
                gettext("This printer is not reported"),
                gettext("Tick \"Report this printer\" and save to begin.")
            );
        if (!saved.bridge_url && !status.key)
            return told(
                "info",
                gettext("Not set up yet"),
                gettext("Choose the bridge, then pair with it. Nothing is sent before there is a key.")
            );
        if (!saved.bridge_url)
            return told(
                "info",
                gettext("The address of the bridge is missing"),
                gettext("Type it in or find the bridge, then save.")
            );
        if (!MESBridge.isAddress(saved.bridge_url.trim()))
            return told("error", gettext("The address of the bridge is wrong"), status.idle);
        if (!status.key)
            return told(
                "info",
                gettext("The bridge has no key of this printer yet"),
                gettext("Pair with the bridge, or generate a key and take it there by hand.")
            );
        return told("warning", gettext("Nothing is sent"), status.idle);
    }

    /** How many events are lost for ever, in this run of OctoPrint. */
    MESBridge.lost = (status) => sum(lost(status));

    const lost = ({dropped, left_out}) => {
        const counts = {...dropped};
        for (const [kind, count] of Object.entries(left_out || {})) counts[kind] = (counts[kind] || 0) + count;
        return counts;
    };

    /**
     * What is wrong enough for a mark in the navigation bar, and why: {headline, advice}, null when nothing is.
     * `errorFor`: for how many ms the present error has lasted; `seenLost`: how many lost events the person knows of.
     * What is not set up is not wrong.
     */
    MESBridge.wrong = (status, errorFor, seenLost) => {
        const storage = status.storage || {};
        const told = (headline, advice) => ({headline, advice: advice || ""});
        if (status.trouble) return told(gettext("The MES connection has a problem"), status.trouble);
        if (storage.full || storage.error)
            return told(
                gettext("Events for the MES cannot be kept on the disk"),
                MESBridge.storageAdvice(storage)
            );
        if (status.error && !status.idle && errorFor >= MESBridge.PATIENCE_MS)
            return told(gettext("Events do not reach the MES bridge"), status.error);
        if (MESBridge.lost(status) > seenLost)
            return told(gettext("Events for the MES were lost"), MESBridge.counts(lost(status)));
        return null;
    };

    /** How the clocks of bridge and OctoPrint differ; `seconds` is what the bridge's is ahead, null: not known. */
    MESBridge.clock = (seconds) => {
        if (_.isNull(seconds) || _.isUndefined(seconds)) return gettext("not known yet");
        if (Math.abs(seconds) < 1) return gettext("in step");
        return _.sprintf(
            seconds > 0
                ? gettext("the bridge's is %(seconds)d s ahead; set the clock of this computer (NTP)")
                : gettext("the bridge's is %(seconds)d s behind; set the clock of this computer (NTP)"),
            {seconds: Math.round(Math.abs(seconds))}
        );
    };

    const PASSED = () => ({mark: "fa-check text-success", said: gettext("Passed:")});
    const TO_DO = () => ({mark: "fa-arrow-right", said: gettext("To do:")});
    const FAILED = () => ({mark: "fa-times text-error", said: gettext("Failed:")});

    /** What the test of a connection says: {level, headline, advice, steps: [{text, mark, said}]}. */
    MESBridge.test = (test) => {
        const verdict = test.verdict || (test.ok ? "usable" : "unusable");
        const [level, headline] = {
            usable: ["success", gettext("The bridge can be reached.")],
            to_pair: ["info", gettext("Now pair with the bridge.")],
            unusable: ["error", gettext("The bridge cannot be used like this.")]
        }[verdict];
        const open = verdict === "to_pair" ? TO_DO() : FAILED();
        const steps = test.steps.map((step) => ({text: step.text, ...(step.ok ? PASSED() : open)}));
        return {level, headline, advice: test.advice || "", steps};
    };

    /** What a pairing's state says: {level, headline, advice}. The plugin's message says more than the headline. */
    MESBridge.pairing = (pairing) => {
        const told = (level, headline, advice) => ({
            level,
            headline,
            advice: pairing.message || advice || ""
        });
        switch (pairing.state) {
            case "requesting":
                return told("info", gettext("Pairing ..."));
            case "comparing":
                return told(
                    "info",
                    gettext("Does the bridge show the same code?"),
                    gettext("Look it up at the bridge. If it shows another one, cancel: somebody may stand in between.")
                );
            case "confirmed":
                return told(
                    "info",
                    gettext("Confirmed here"),
                    gettext("Accept the request at the bridge. This page then goes on by itself.")
                );
            case "done":
                return {
                    level: "success",
                    headline: gettext("Paired: the bridge serves this printer"),
                    advice: gettext("There is nothing more to do.")
                };
            case "cancelled":
                return told("info", gettext("Not paired"));
            case "expired":
                return told("warning", gettext("Not paired"), gettext("Nobody answered in time. Request again."));
            default:
                return told("error", gettext("Not paired"), gettext("Request again."));
        }
    };
});
