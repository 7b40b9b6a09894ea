# `cpack -G DEB`: the program, its documents, a service and its user, as one Debian package. What is
# linked statically (NOTICE) is in it; of the system it asks for the shared libraries that it was
# linked with.
include(GNUInstallDirs)
set(share ${CMAKE_INSTALL_DATADIR}/nudge)
install(TARGETS nudge RUNTIME)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(FILES README.md NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES packaging/nudge.json configs/schema.json configs/quickstart/anchors.txt
        DESTINATION ${share})
install(FILES configs/grafana/nudge.json DESTINATION ${share}/grafana)
install(FILES packaging/nudge.service DESTINATION lib/systemd/system)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_CONTACT "The authors of nudge <nudge@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "a stream processor whose model learns while it serves")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/packaging/postinst)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
