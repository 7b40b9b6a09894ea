// What the module asks of JavaScript: whether a lesson is to go on (exports.h).
mergeInto(LibraryManager.library, {
  nudge_beat: function() {
    return Module['beat'] ? Module['beat']() : 0;
  },
});
